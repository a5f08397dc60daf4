// SPDX-License-Identifier: GPL-2.0-or-later
// The log of a process in the background: the journal or syslog, whichever listens; both take the same datagrams.
//
// Every line is sent for itself, so a log daemon that starts or restarts later gets what comes then. A line that nobody
// takes goes to stderr, which is a file. So does what Node itself says when it crashes; its first words are sent too.

import { sendDatagram } from '../sys/datagram.ts';
import type { Log, LogLevel } from '../util/log.ts';
import { messageOf } from './exit.ts';
import { oneLine, stderrLog } from './log.ts';

/** journald's own, then the one that /dev/log has been since syslog(3). */
const SOCKETS: readonly string[] = ['/run/systemd/journal/dev-log', '/dev/log'];

/** Bytes that every syslog daemon takes in one message. */
const MESSAGE_BYTES_MAX = 8000;

/** Of syslog(3). */
const FACILITY_DAEMON = 3;
const SEVERITIES: Record<LogLevel, number> = { error: 3, warning: 4, info: 6 };

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** `<PRI>Mmm dd hh:mm:ss PROGRAM[PID]: TEXT`, in local time. */
export function syslogMessage(program: string, line: string, level: LogLevel, now: Date): Uint8Array {
  const priority = FACILITY_DAEMON * 8 + SEVERITIES[level];
  const day = String(now.getDate()).padStart(2);
  const time = now.toTimeString().slice(0, 8);
  const head = `<${priority}>${MONTHS[now.getMonth()]} ${day} ${time} ${program}[${process.pid}]: `;
  return Buffer.from(head + oneLine(line)).subarray(0, MESSAGE_BYTES_MAX);
}

/** Returns a log that writes to the first of `sockets` that takes a line, else to stderr. */
export function systemLog(program: string, sockets: readonly string[] = SOCKETS): Log {
  const fallback = stderrLog(program);
  return (line, level = 'info') => {
    const message = syslogMessage(program, line, level, new Date());
    if (!sockets.some((socket) => sendDatagram(socket, message))) fallback(line, level);
  };
}

/** Has the log know of an exception that ends this process; Node prints it to stderr besides. */
export function logCrash(log: Log): void {
  process.on('uncaughtExceptionMonitor', (error) =>
    log(`crashed: ${error.stack ?? messageOf(error)}`, 'error'),
  );
}
