// SPDX-License-Identifier: GPL-2.0-or-later
//
// Faults that are planted on purpose, by name, in the wiring of a client, its kernel or its network: each must be found.
// (`drop-revoke` is in the network's hands, simulation.ts.)

import type { Client } from '../../ts/client/client.ts';
import type { Fault } from './scenario.ts';

/** Invalidations that the kernel does not carry out. */
export const KERNEL_FAULTS: ReadonlyMap<Fault | null, 'names' | 'attributes' | 'bytes'> = new Map([
  ['forget-no-names', 'names'],
  ['forget-no-attributes', 'attributes'],
  ['forget-no-pages', 'bytes'],
]);

/** Breaks a client in the way of a fault. @param onFired - called each time that it makes a difference */
export function breakClient(client: Client, fault: Fault | null, onFired: () => void): void {
  const { inner, operations } = client;
  const { writeBack, held, files } = inner;
  switch (fault) {
    case 'release-before-flush':
      // Whoever flushes is told that everything has been applied.
      writeBack.flushLog = () => {
        onFired();
        return writeBack.appliedPlace;
      };
      break;
    case 'keep-more-than-released': {
      // The release says that all goes, and a part of it is kept.
      const add = held.add.bind(held);
      held.add = (grant) => {
        if (grant.mode === 0 && grant.end.objectid - grant.start.objectid === 1 && grant.start.type === 0) {
          onFired();
          return;
        }
        add(grant);
      };
      break;
    }
    case 'data-after-metadata': {
      // A rename does not find the bytes that it should take along.
      const rename = operations.rename.bind(operations);
      const get = files.get.bind(files);
      operations.rename = (...names) => {
        files.get = () => undefined;
        const result = rename(...names);
        files.get = get;
        if (result === 0) onFired();
        return result;
      };
      break;
    }
  }
}
