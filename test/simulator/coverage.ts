// SPDX-License-Identifier: GPL-2.0-or-later
//
// What a long run must have seen: what never happens is not tested. Every transition of the state machines of coherency,
// every message both ways, every trouble, every kind of hit in a kernel's cache.

import { Transition } from '../../ts/coherency/transitions.ts';
import { type MessageName, messages } from '../../ts/wire/message.ts';

export const TROUBLES = [
  'a client crashes',
  'a client is silent for a while',
  'a client is silent for good',
  'a batch is refused',
  'a read fails',
  'a commit fails',
] as const;

export type Trouble = (typeof TROUBLES)[number];

/** As the counters of the clients have them. */
function messageCounts(): string[] {
  const counts: string[] = [];
  for (const name of Object.keys(messages) as MessageName[]) {
    const { senders, reply } = messages[name];
    const isAsked = senders.includes('client');
    if (isAsked) counts.push(`message: ${name} from client`);
    if (senders.includes('server') || (isAsked && reply !== null)) counts.push(`message: ${name} to client`);
  }
  return counts;
}

const EXPECTED: readonly string[] = [
  ...Object.keys(Transition).map((name) => `transition: ${name}`),
  ...messageCounts(),
  ...TROUBLES.map((name) => `trouble: ${name}`),
  'kernel: cached name',
  'kernel: cached attributes',
  'kernel: cached page',
];

/** @returns what never happened */
export function missingCounts(counts: Readonly<Record<string, number>>): string[] {
  return EXPECTED.filter((name) => (counts[name] ?? 0) === 0);
}
