// SPDX-License-Identifier: GPL-2.0-or-later
//
// What happened last, for the report of a failure, and the class of failures. Lines are put together only when they
// are read.

/** A broken rule. */
export class Violation extends Error {
  readonly rule: string;

  constructor(rule: string, text: string) {
    super(`${rule}: ${text}`);
    this.name = 'Violation';
    this.rule = rule;
  }
}

export class Trace {
  readonly #nowMs: () => number;
  readonly #ring: (readonly unknown[])[] = [];
  readonly #kept: number;
  #next = 0;
  /** A sum over everything noted: equal seeds must give equal sums. */
  digest = 0;

  /** @param kept - lines that `last` can give */
  constructor(nowMs: () => number, kept: number) {
    this.#nowMs = nowMs;
    this.#kept = Math.max(1, kept);
  }

  /** Notes an event: its parts are joined by spaces when somebody reads it. */
  note(...parts: readonly (string | number)[]): void {
    let sum = this.digest;
    for (const part of parts) {
      if (typeof part === 'number') sum = (Math.imul(sum, 31) + (part | 0)) | 0;
      else sum = (Math.imul(sum, 31) + part.length * 257 + (part.charCodeAt(0) | 0)) | 0;
    }
    this.digest = sum;
    this.#ring[this.#next % this.#kept] = [this.#nowMs(), ...parts];
    this.#next++;
  }

  /** The last lines, oldest first. */
  last(count: number): string[] {
    const lines: string[] = [];
    for (let at = Math.max(0, this.#next - Math.min(count, this.#kept)); at < this.#next; at++) {
      const [ms, ...parts] = this.#ring[at % this.#kept]!;
      lines.push(`${Number(ms).toFixed(3).padStart(12)} ms  ${parts.join(' ')}`);
    }
    return lines;
  }
}
