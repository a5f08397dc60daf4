// SPDX-License-Identifier: GPL-2.0-or-later
//! Tells the linker what an addon leaves undefined.

fn main() {
    napi_build::setup();
}
