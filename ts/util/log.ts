// SPDX-License-Identifier: GPL-2.0-or-later
//
// What layers below the commands are given to log with: an event is one line and a level. Where the lines go is decided
// by ts/cli.

/**
 * `error`: something is lost, or does not work any more; `warning`: something went wrong and somebody may have to look;
 * `info`: the course of things.
 */
export type LogLevel = 'error' | 'warning' | 'info';

/** Without a level a line is `info`. */
export type Log = (line: string, level?: LogLevel) => void;
