// SPDX-License-Identifier: GPL-2.0-or-later
// The log of a command: one line an event, on stderr, with time, program and process.

export type Log = (line: string) => void;

/** Returns a log that writes to stderr. A line break in `line` (from a peer or an image) does not start a new line. */
export function stderrLog(program: string): Log {
  return (line) => {
    const time = new Date().toISOString();
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not reach the log.
    const clean = line.replace(/[\u0000-\u001f\u007f]/g, ' ');
    process.stderr.write(`${time} ${program}[${process.pid}]: ${clean}\n`);
  };
}
