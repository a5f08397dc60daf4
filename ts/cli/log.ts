// SPDX-License-Identifier: GPL-2.0-or-later
// The log of a command: one line an event, on stderr, with time, program, process and level.

import type { Log } from '../util/log.ts';

/** A line break (from a peer or an image) does not start a new line. */
export function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not reach the log.
  return text.replace(/[\u0000-\u001f\u007f]/g, ' ');
}

/** Returns a log that writes to stderr. */
export function stderrLog(program: string): Log {
  return (line, level = 'info') => {
    const time = new Date().toISOString();
    process.stderr.write(`${time} ${program}[${process.pid}] ${level}: ${oneLine(line)}\n`);
  };
}
