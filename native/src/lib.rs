// SPDX-License-Identifier: GPL-2.0-or-later

mod fuse;
mod poll;
