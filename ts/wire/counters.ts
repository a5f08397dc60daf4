// SPDX-License-Identifier: GPL-2.0-or-later
//
// Counts of messages by kind and direction, for `stats`. A reply counts under the kind of its request. Bytes are
// those of whole frames. The counts are plain numbers in typed arrays: counting costs nothing worth naming.

import { KINDS_END, messageName } from './message.ts';

/** Kind -> count; kinds that never occurred are left out. */
export type CountsByKind = Record<string, number>;

export interface MessageReport {
  /** Messages. */
  messages: { sent: CountsByKind; received: CountsByKind };
  /** Bytes. */
  bytes: { sent: CountsByKind; received: CountsByKind };
}

export class MessageCounters {
  readonly #sent: Float64Array = new Float64Array(KINDS_END);
  readonly #received: Float64Array = new Float64Array(KINDS_END);
  readonly #sentBytes: Float64Array = new Float64Array(KINDS_END);
  readonly #receivedBytes: Float64Array = new Float64Array(KINDS_END);

  sent(kind: number, bytes: number): void {
    this.#sent[kind]!++;
    this.#sentBytes[kind]! += bytes;
  }

  received(kind: number, bytes: number): void {
    this.#received[kind]!++;
    this.#receivedBytes[kind]! += bytes;
  }

  report(): MessageReport {
    return {
      messages: { sent: byKind(this.#sent), received: byKind(this.#received) },
      bytes: { sent: byKind(this.#sentBytes), received: byKind(this.#receivedBytes) },
    };
  }
}

function byKind(counts: Float64Array): CountsByKind {
  const named: CountsByKind = {};
  for (let kind = 0; kind < counts.length; kind++) {
    const name = messageName(kind);
    if (name !== undefined && counts[kind]! > 0) named[name] = counts[kind]!;
  }
  return named;
}
