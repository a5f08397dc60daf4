// SPDX-License-Identifier: GPL-2.0-or-later
//
// Bits of the number that is a regular file's handle, beside those of the client's `OpenFlags`: there is no table of
// open files here.

/** Opened for append. */
export const HANDLE_APPEND = 8;
/** What it reads and writes goes past the kernel's pages. */
export const HANDLE_DIRECT = 16;
