// SPDX-License-Identifier: GPL-2.0-or-later
//
// Another order. The simulation holds each step against the model at the moment at which it took effect. If one does not
// fit there, it may still have taken effect earlier, between its beginning and its end, before steps that overlap with
// it: this searches an order of the steps since then that respects what ended before what began, and in which every
// result is right (Wing and Gong's search, with Lowe's memory of the configurations that lead nowhere). Steps change
// several objects at once, as a rename does, so the whole model is the object that is searched over.

import { applyStep, type Step } from './history.ts';
import type { Model } from './model.ts';
import { modelText, objectsOf } from './wreck.ts';

export interface Done {
  readonly step: Step;
  /** The number of steps that were done when it began, and its own number: it ended then. */
  readonly begun: number;
  readonly ended: number;
  readonly isOpen: boolean;
  /** Reverses of what it changed, oldest first. */
  readonly undo: (() => void)[];
}

/** Steps that a search looks at, at most: beyond that the order of effects is all that is tried. */
const WINDOW_MAX = 24;
/** Configurations that a search tries at most. */
const TRIES_MAX = 20_000;

export class Linearizer {
  readonly #model: Model;
  /** The last steps, oldest first. */
  #recent: Done[] = [];
  #number = 0;

  constructor(model: Model) {
    this.#model = model;
  }

  /** Steps done so far: what a request that begins now has to name. */
  get now(): number {
    return this.#number;
  }

  /** The model was changed from outside: nothing before can be undone. */
  forget(): void {
    this.#recent = [];
  }

  /**
   * Takes a step in.
   *
   * @returns null if it fits, in the order of effects or in another one (then `isMoved`); else what is wrong.
   */
  add(
    step: Step,
    begun: number,
    isOpen: boolean,
  ): { wrong: string | null; isMoved: boolean; hasChanged: boolean } {
    const model = this.#model;
    const number = ++this.#number;
    model.undo = [];
    const wrong = applyStep(model, step, isOpen);
    const done: Done = { step, begun, ended: number, isOpen, undo: model.undo };
    if (wrong === null) {
      this.#recent.push(done);
      if (this.#recent.length > 4 * WINDOW_MAX) this.#recent = this.#recent.slice(-2 * WINDOW_MAX);
      return { wrong, isMoved: false, hasChanged: done.undo.length > 0 };
    }
    undoAll(done.undo);
    const isMoved = this.#search({ ...done, undo: [] });
    return { wrong: isMoved ? null : wrong, isMoved, hasChanged: isMoved };
  }

  #search(last: Done): boolean {
    // Everything that took effect since the step began; before that nothing can have come after it.
    const from = this.#recent.findIndex((done) => done.ended > last.begun);
    if (from < 0 || this.#recent.length - from > WINDOW_MAX) return false;
    const window = [...this.#recent.slice(from), last];
    for (let at = window.length - 2; at >= 0; at--) undoAll(window[at]!.undo);
    const { onName } = this.#model;
    this.#model.onName = () => {};
    const order = findOrder(this.#model, window);
    if (order === null) for (const done of window.slice(0, -1)) this.#redo(done);
    this.#model.onName = onName;
    if (order !== null) this.#recent = [...this.#recent.slice(0, from), ...order];
    return order !== null;
  }

  #redo(done: Done): void {
    this.#model.undo = done.undo;
    done.undo.length = 0;
    applyStep(this.#model, done.step, done.isOpen);
  }
}

function undoAll(undo: (() => void)[]): void {
  for (let at = undo.length - 1; at >= 0; at--) undo[at]!();
}

/** @returns an order in which every step is right, applied to the model; null if there is none, and nothing changed */
export function findOrder(model: Model, window: readonly Done[]): Done[] | null {
  const keys = new Set<string>();
  for (const { step } of window) for (const key of objectsOf(model, step)?.keys ?? []) keys.add(key);
  const failed = new Set<string>();
  const order: Done[] = [];
  const left = new Set(window);
  let tries = 0;
  const go = (): boolean => {
    if (left.size === 0) return true;
    if (++tries > TRIES_MAX) return false;
    const state = [...window].map((done) => (left.has(done) ? '1' : '0')).join('');
    const configuration = `${state} ${[...keys].map((key) => modelText(model, key)).join(' ')}`;
    if (failed.has(configuration)) return false;
    // A step may come next unless another one that is left ended before it began.
    let firstEnd = Infinity;
    for (const done of left) firstEnd = Math.min(firstEnd, done.ended);
    for (const done of [...left]) {
      if (done.begun >= firstEnd) continue;
      model.undo = [];
      const wrong = applyStep(model, done.step, done.isOpen);
      const { undo } = model;
      if (wrong === null) {
        left.delete(done);
        order.push({ ...done, undo });
        if (go()) return true;
        order.pop();
        left.add(done);
      }
      undoAll(undo);
    }
    failed.add(configuration);
    return false;
  };
  return go() ? order : null;
}
