// SPDX-License-Identifier: GPL-2.0-or-later
//! Calls a JavaScript function when a descriptor becomes readable, straight from the event loop.
//!
//! A `uv_poll_t` on the thread's own loop: no second thread and no second wake-up per request, which measured at
//! twice the rate of a thread that polls and wakes us. Level-triggered: a callback that leaves something unread is
//! called again in the loop's next round, after the sockets and timers had their turn.
//!
//! Only the JavaScript thread of the environment uses it. `Poll` keeps the loop alive until it is dropped; an
//! environment that ends first closes the handle by a cleanup hook.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::rc::Rc;

use napi::{Env, Error, Result, Status, sys};

/// `UV_POLL` of libuv's handle types and `UV_READABLE` of its poll events: fixed parts of libuv 1.x's ABI.
const UV_POLL: c_int = 8;
const UV_READABLE: c_int = 1;

type PollCallback = unsafe extern "C" fn(handle: *mut c_void, status: c_int, events: c_int);
type CloseCallback = unsafe extern "C" fn(handle: *mut c_void);

// The node executable exports libuv; the symbols resolve when it loads the addon.
unsafe extern "C" {
    fn uv_handle_size(kind: c_int) -> usize;
    fn uv_handle_set_data(handle: *mut c_void, data: *mut c_void);
    fn uv_handle_get_data(handle: *const c_void) -> *mut c_void;
    fn uv_poll_init(event_loop: *mut sys::uv_loop_s, handle: *mut c_void, fd: c_int) -> c_int;
    fn uv_poll_start(handle: *mut c_void, events: c_int, callback: PollCallback) -> c_int;
    fn uv_close(handle: *mut c_void, callback: CloseCallback);
}

/// A watch on one descriptor. Dropping it ends the watch.
pub struct Poll {
    watch: Rc<Watch>,
}

/// What the loop's callback needs; the loop holds one reference until the handle is closed.
struct Watch {
    env: sys::napi_env,
    function: sys::napi_ref,
    /// Null once `uv_close` was called.
    handle: Cell<*mut c_void>,
}

impl Poll {
    /// Calls `function` without arguments whenever `fd`, which must stay open until the drop, is readable or broken.
    pub fn start(env: &Env, fd: i32, function: sys::napi_value) -> Result<Self> {
        let env = env.raw();
        let mut event_loop = ptr::null_mut();
        // SAFETY: `env` is the live environment of this thread, as is `function`; all out-pointers are valid.
        unsafe { check(sys::napi_get_uv_event_loop(env, &mut event_loop), "find the event loop")? };
        let mut reference = ptr::null_mut();
        // SAFETY: as above.
        unsafe { check(sys::napi_create_reference(env, function, 1, &mut reference), "keep the callback")? };
        let handle = new_handle();
        // SAFETY: `handle` is zeroed memory of the size that libuv asks for, and the loop is this thread's.
        let failed = unsafe { uv_poll_init(event_loop, handle, fd) };
        if failed != 0 {
            free_handle(handle);
            // SAFETY: the reference was made above.
            unsafe { sys::napi_delete_reference(env, reference) };
            return Err(Error::from_reason(format!("cannot watch the descriptor: libuv error {failed}")));
        }
        let watch = Rc::new(Watch { env, function: reference, handle: Cell::new(handle) });
        let data = Rc::into_raw(Rc::clone(&watch)) as *mut c_void;
        // SAFETY: the handle is initialised; its data is a counted reference that `on_closed` takes back.
        unsafe {
            uv_handle_set_data(handle, data);
            uv_poll_start(handle, UV_READABLE, on_readable);
            sys::napi_add_env_cleanup_hook(env, Some(on_cleanup), data);
        }
        Ok(Self { watch })
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        let data = Rc::as_ptr(&self.watch) as *mut c_void;
        // SAFETY: same arguments as when it was added; unknown ones are ignored.
        unsafe { sys::napi_remove_env_cleanup_hook(self.watch.env, Some(on_cleanup), data) };
        self.watch.close();
    }
}

impl Watch {
    fn close(&self) {
        let handle = self.handle.replace(ptr::null_mut());
        if handle.is_null() {
            return;
        }
        // SAFETY: the handle was initialised and is closed once; `on_closed` frees it.
        unsafe {
            sys::napi_delete_reference(self.env, self.function);
            uv_close(handle, on_closed);
        }
    }
}

unsafe extern "C" fn on_readable(handle: *mut c_void, _status: c_int, _events: c_int) {
    // SAFETY: the data is the counted reference set in `start`; taking another keeps the watch alive while JS runs.
    let watch = unsafe {
        let data = uv_handle_get_data(handle) as *const Watch;
        Rc::increment_strong_count(data);
        Rc::from_raw(data)
    };
    if !watch.handle.get().is_null() {
        call(&watch);
    }
}

/// Runs the JavaScript function and, after it, the microtasks. What it throws is an uncaught exception.
fn call(watch: &Watch) {
    let env = watch.env;
    let mut scope = ptr::null_mut();
    let (mut function, mut global, mut result) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: the environment lives while its loop runs; every out-pointer is valid; the scope is closed at the end.
    unsafe {
        if sys::napi_open_handle_scope(env, &mut scope) != sys::Status::napi_ok {
            return;
        }
        sys::napi_get_reference_value(env, watch.function, &mut function);
        sys::napi_get_global(env, &mut global);
        let status =
            sys::napi_make_callback(env, ptr::null_mut(), global, function, 0, ptr::null(), &mut result);
        if status == sys::Status::napi_pending_exception {
            let mut error = ptr::null_mut();
            sys::napi_get_and_clear_last_exception(env, &mut error);
            sys::napi_fatal_exception(env, error);
        }
        sys::napi_close_handle_scope(env, scope);
    }
}

unsafe extern "C" fn on_cleanup(data: *mut c_void) {
    // SAFETY: the hook is removed before the last reference goes.
    unsafe { (*(data as *const Watch)).close() };
}

unsafe extern "C" fn on_closed(handle: *mut c_void) {
    // SAFETY: takes back the loop's reference; nobody uses the handle after its close callback.
    unsafe { drop(Rc::from_raw(uv_handle_get_data(handle) as *const Watch)) };
    free_handle(handle);
}

/// Zeroed memory for a `uv_poll_t`, in u64 words for its alignment.
fn new_handle() -> *mut c_void {
    Box::into_raw(vec![0u64; handle_words()].into_boxed_slice()) as *mut c_void
}

fn free_handle(handle: *mut c_void) {
    let words = ptr::slice_from_raw_parts_mut(handle as *mut u64, handle_words());
    // SAFETY: made by `new_handle` with the same number of words.
    drop(unsafe { Box::from_raw(words) });
}

fn handle_words() -> usize {
    // SAFETY: a pure function of libuv.
    unsafe { uv_handle_size(UV_POLL) }.div_ceil(8)
}

fn check(status: sys::napi_status, what: &str) -> Result<()> {
    if status == sys::Status::napi_ok {
        return Ok(());
    }
    Err(Error::new(Status::from(status), format!("cannot {what}")))
}
