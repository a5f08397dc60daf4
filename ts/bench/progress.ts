// SPDX-License-Identifier: GPL-2.0-or-later
// A progress bar on a terminal's last line; nothing at all where the output is no terminal. It is drawn again every second,
// since one step may take long.

const BAR_WIDTH = 20;
const REDRAW_MS = 1_000;

/** `75 s` as `1:15`. */
function clock(seconds: number): string {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

/** What the bar shows, at most `columns` characters. */
export function progressLine(
  done: number,
  total: number,
  label: string,
  seconds: number,
  columns: number,
): string {
  const filled = Math.floor((done / total) * BAR_WIDTH);
  const bar = `${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}`;
  const left = done === 0 ? '' : `, about ${clock((seconds / done) * (total - done))} left`;
  return `[${bar}] ${done}/${total} ${clock(seconds)}${left}  ${label}`.slice(0, columns);
}

/** The part of a stream that is needed. */
export interface BarStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

export class ProgressBar {
  readonly #stream: BarStream;
  readonly #now: () => number;
  readonly #start: number;
  readonly #timer: NodeJS.Timeout | undefined;
  #state: readonly [done: number, total: number, label: string] | undefined;

  /** @param now - milliseconds. */
  constructor(stream: BarStream, now: () => number = () => performance.now()) {
    this.#stream = stream;
    this.#now = now;
    this.#start = now();
    if (stream.isTTY !== true) return;
    this.#timer = setInterval(() => this.#draw(), REDRAW_MS);
    this.#timer.unref();
  }

  /** @param done - steps that are over, of `total`. @param label - what happens now. */
  show(done: number, total: number, label: string): void {
    this.#state = [done, total, label];
    this.#draw();
  }

  /** Takes the bar away, for good. */
  end(): void {
    clearInterval(this.#timer);
    if (this.#timer !== undefined && this.#state !== undefined) this.#stream.write('\r\x1b[K');
    this.#state = undefined;
  }

  #draw(): void {
    if (this.#timer === undefined || this.#state === undefined) return;
    const seconds = (this.#now() - this.#start) / 1_000;
    // One column is left free: a full line would move on to the next.
    const line = progressLine(...this.#state, seconds, (this.#stream.columns ?? 80) - 1);
    this.#stream.write(`\r${line}\x1b[K`);
  }
}
