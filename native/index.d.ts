// SPDX-License-Identifier: GPL-2.0-or-later
//
// Types of the loader: all that the generated declarations hold.

import type * as binding from './binding.js';

export declare const native: typeof binding;
