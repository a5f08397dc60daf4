// SPDX-License-Identifier: GPL-2.0-or-later
//! Verification of a whole tree block. (being written)
