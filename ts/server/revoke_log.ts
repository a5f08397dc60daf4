// SPDX-License-Identifier: GPL-2.0-or-later
//
// The revokes that were sent: how many of each kind, how long they took, which are out. A kind is what the holder had
// and what it may keep. A revoke ends when nothing that it asked back is held any more.

import type { GrantTable } from '../coherency/grant_table.ts';
import type { Clock } from '../util/clock.ts';
import { type DurationReport, Durations } from '../util/durations.ts';
import { Mode, type ModeChange } from '../wire/message.ts';

interface Outstanding {
  readonly kind: string;
  readonly sentMs: number;
  readonly ranges: readonly ModeChange[];
}

export interface RevokeReport extends DurationReport {
  /** Revokes that are not answered yet. */
  outstanding: number;
}

export function modeName(mode: Mode): string {
  return Object.entries(Mode).find(([, value]) => value === mode)?.[0] ?? String(mode);
}

export class RevokeLog {
  readonly #clock: Clock;
  readonly #table: GrantTable;
  readonly #durations = new Map<string, Durations>();
  readonly #outstanding = new Map<number, Outstanding[]>();

  constructor(clock: Clock, table: GrantTable) {
    this.#clock = clock;
    this.#table = table;
  }

  sent(session: number, ranges: readonly ModeChange[]): void {
    const first = ranges[0];
    if (first === undefined) return;
    const kind = `${modeName(first.oldMode)} to ${modeName(first.newMode)}`;
    const list = this.#outstanding.get(session) ?? [];
    this.#outstanding.set(session, list);
    list.push({ kind, sentMs: this.#clock.nowMs(), ranges });
  }

  /** Something of the session's was released. */
  settle(session: number): void {
    const list = this.#outstanding.get(session);
    if (list === undefined) return;
    const left = list.filter((revoke) => {
      if (revoke.ranges.some((range) => this.#table.isRevoking(session, range))) return true;
      this.#ended(revoke);
      return false;
    });
    if (left.length > 0) this.#outstanding.set(session, left);
    else this.#outstanding.delete(session);
  }

  endSession(session: number): void {
    for (const revoke of this.#outstanding.get(session) ?? []) this.#ended(revoke);
    this.#outstanding.delete(session);
  }

  /** Revokes that the session has not answered, and for how long the oldest is out, milliseconds. */
  of(session: number): { count: number; oldestMs: number } {
    const list = this.#outstanding.get(session) ?? [];
    return { count: list.length, oldestMs: list.length === 0 ? 0 : this.#clock.nowMs() - list[0]!.sentMs };
  }

  report(): Record<string, RevokeReport> {
    const report: Record<string, RevokeReport> = {};
    for (const [kind, durations] of this.#durations) report[kind] = { ...durations.report(), outstanding: 0 };
    for (const list of this.#outstanding.values()) {
      for (const { kind } of list) {
        report[kind] ??= { ...new Durations().report(), outstanding: 0 };
        report[kind].outstanding++;
      }
    }
    return report;
  }

  #ended({ kind, sentMs }: Outstanding): void {
    let durations = this.#durations.get(kind);
    if (durations === undefined) {
      durations = new Durations();
      this.#durations.set(kind, durations);
    }
    durations.add(this.#clock.nowMs() - sentMs);
  }
}
