// SPDX-License-Identifier: GPL-2.0-or-later
// What a log line looks like, to the system's log and on stderr.

import { expect, test, vi } from 'vitest';
import { stderrLog } from '../../../ts/cli/log.ts';
import { syslogMessage, systemLog } from '../../../ts/cli/system_log.ts';

const NOON = new Date(2026, 11, 1, 12, 0, 5);

function stderrOf(body: () => void): string {
  let said = '';
  const spy = vi.spyOn(process.stderr, 'write').mockImplementation((chunk) => {
    said += String(chunk);
    return true;
  });
  body();
  spy.mockRestore();
  return said;
}

test.each([
  ['error', 27],
  ['warning', 28],
  ['info', 30],
] as const)('a message to syslog of level %s has priority %i', (level, priority) => {
  const message = Buffer.from(syslogMessage('prog', 'it\nhappened', level, NOON)).toString();
  expect(message).toBe(`<${priority}>Dec  1 12:00:05 prog[${process.pid}]: it happened`);
});

test('a message is not longer than syslog daemons take', () => {
  expect(syslogMessage('prog', 'x'.repeat(100_000), 'info', NOON)).toHaveLength(8000);
});

test('stderr gets one line an event, with time and level', () => {
  const said = stderrOf(() => {
    const log = stderrLog('prog');
    log('from a peer:\r\n1970 prog[1] info: forged');
    log('bad', 'error');
  });
  const [first, second, ...rest] = said.split('\n');
  expect(first).toMatch(
    /^\d{4}-\d\d-\d\dT[\d:.]+Z prog\[\d+\] info: from a peer: {2}1970 prog\[1\] info: forged$/,
  );
  expect(second).toMatch(/ prog\[\d+\] error: bad$/);
  expect(rest).toEqual(['']);
});

test('without a journal or syslog a line goes to stderr', () => {
  expect(stderrOf(() => systemLog('prog', ['/nowhere/a', '/nowhere/b'])('here', 'warning'))).toMatch(
    / warning: here\n$/,
  );
});
