// SPDX-License-Identifier: GPL-2.0-or-later
//
// Keeps idle processors from sleeping while work comes thick and fast. A program, mount.crfs and crfsd hand each other
// the turn tens of thousands of times a second, and every hand-over wakes a processor that has nothing to do for some
// microseconds; from a sleep that takes longer than the work (in a virtual machine the wake-up leaves the machine and
// comes back). The kernel's interface for that is /dev/cpu_dma_latency: while a process holds it open with 0, idle
// processors poll. It is let go when the work ends, and by the kernel if this process dies.
//
// Measured, an untar of 20,000 entries on two virtual processors: 5.6 s without, 2.9 s with, half of the CPU time.
//
// All processors poll, which costs power, and turbo speed where they are many: by default only small machines do it.

import { closeSync, openSync, writeSync } from 'node:fs';
import { availableParallelism } from 'node:os';

/** `poll`: while there is much to do; `sleep`: never; `auto`: `poll` on a machine of up to `AUTO_PROCESSORS_MAX`. */
export type CpuIdleMode = 'auto' | 'poll' | 'sleep';

export const CPU_IDLE_MODES: readonly CpuIdleMode[] = ['auto', 'poll', 'sleep'];

const DEVICE = '/dev/cpu_dma_latency';
const AUTO_PROCESSORS_MAX = 16;

/** How often it is judged whether there is much to do, milliseconds. */
const WINDOW_MS = 10;
/** Pieces of work in a window, requests or messages, from which on sleeping costs more than polling. */
const BUSY_PIECES = 10;
/** Windows with fewer, one after the other, before processors may sleep again. */
const QUIET_WINDOWS = 3;

export class CpuIdle {
  readonly #setPolling: (on: boolean) => void;
  #isWanted = false;
  #isPolling = false;
  #pieces = 0;
  #quietWindows = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(setPolling: (on: boolean) => void) {
    this.#setPolling = setPolling;
  }

  configure(mode: CpuIdleMode, processors: number = availableParallelism()): void {
    this.#isWanted = mode === 'poll' || (mode === 'auto' && processors <= AUTO_PROCESSORS_MAX);
  }

  /** A piece of work came: a request, a message. */
  readonly worked = (): void => {
    this.#pieces++;
    if (this.#timer === undefined && this.#isWanted) this.#nextWindow();
  };

  #nextWindow(): void {
    this.#pieces = 0;
    this.#timer = setTimeout(this.#judge, WINDOW_MS).unref();
  }

  readonly #judge = (): void => {
    this.#timer = undefined;
    const isBusy = this.#pieces >= BUSY_PIECES;
    this.#quietWindows = isBusy ? 0 : this.#quietWindows + 1;
    if (isBusy) this.#poll(true);
    else if (this.#quietWindows >= QUIET_WINDOWS) this.#poll(false);
    if (this.#isWanted && (this.#isPolling || isBusy)) this.#nextWindow();
  };

  #poll(on: boolean): void {
    if (on === this.#isPolling) return;
    this.#isPolling = on;
    try {
      this.#setPolling(on);
    } catch {
      // A container without the device, an unprivileged user: things work, as fast as the machine wakes up.
      this.#isPolling = false;
      this.#isWanted = false;
    }
  }
}

let device: number | undefined;

/** Opens the device with a latency of 0, or lets it go. */
function holdDevice(on: boolean): void {
  if (on) {
    device = openSync(DEVICE, 'w');
    writeSync(device, new Uint8Array(4));
  } else if (device !== undefined) {
    closeSync(device);
    device = undefined;
  }
}

/** The one of this process. It does nothing until it is configured. */
export const cpuIdle: CpuIdle = new CpuIdle(holdDevice);
