// SPDX-License-Identifier: GPL-2.0-or-later
fn main() {
    napi_build::setup();
}
