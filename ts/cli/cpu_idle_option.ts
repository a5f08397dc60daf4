// SPDX-License-Identifier: GPL-2.0-or-later
// How the commands are told whether processors may sleep (ts/sys/cpu_idle.ts).

import { CPU_IDLE_MODES, type CpuIdleMode } from '../sys/cpu_idle.ts';
import { CliError } from './exit.ts';

/** @param what - the option, for the message. @throws CliError */
export function parseCpuIdle(text: string, what: string): CpuIdleMode {
  const mode = CPU_IDLE_MODES.find((known) => known === text);
  if (mode === undefined) throw new CliError(`${what}: one of ${CPU_IDLE_MODES.join(', ')}, not ${text}`);
  return mode;
}
