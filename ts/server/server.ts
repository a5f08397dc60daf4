// SPDX-License-Identifier: GPL-2.0-or-later
//
// A server on one volume. The caller opens the volume and the listening sockets and hands every connection to
// `accept`; `stop` ends all sessions and commits. See docs/architecture.md.

import type { GrantTable } from '../coherency/grant_table.ts';
import { Errno } from '../util/errno.ts';
import { CONNECTIONS_MAX } from '../util/limits.ts';
import type { Transport } from '../wire/transport.ts';
import { Connection } from './dispatch.ts';
import { LeaseKeeper } from './lease.ts';
import { type ServerOptions, ServerState } from './state.ts';
import { type ServerStats, serverStats } from './stats.ts';
import { finishDeletes } from './wind_up.ts';

export class Server {
  readonly #state: ServerState;
  readonly #leases: LeaseKeeper;
  readonly #connections = new Set<Connection>();

  constructor(options: ServerOptions) {
    this.#state = new ServerState(options);
    this.#leases = new LeaseKeeper(this.#state);
  }

  /**
   * Gets ready: finishes what a crash left half deleted, and finds the free inode numbers.
   *
   * @throws FsError - the image cannot be worked with
   */
  async start(): Promise<void> {
    const { volume, runs, writableTrees } = this.#state;
    await finishDeletes(this.#state);
    // Known before anything is granted: a wide grant must not reach over free numbers, which go to others.
    for (const tree of writableTrees) runs.open(tree, await volume.highestInode(tree));
    this.#leases.start();
  }

  /** Takes a connection. */
  accept(transport: Transport): void {
    if (this.#state.stopping || this.#connections.size >= CONNECTIONS_MAX) {
      transport.destroy();
      return;
    }
    const connection: Connection = new Connection(this.#state, transport, () =>
      this.#connections.delete(connection),
    );
    this.#connections.add(connection);
  }

  stats(): ServerStats {
    return serverStats(this.#state);
  }

  /** Who holds what: for simulations, which check it. */
  get table(): GrantTable {
    return this.#state.table;
  }

  /** Number of sessions. */
  get sessions(): number {
    return this.#state.sessions.size;
  }

  /**
   * Says goodbye to everybody, waits for what they sent, and makes it durable. The volume can be closed then.
   *
   * @throws FsError - the last commit failed
   */
  async stop(): Promise<void> {
    const state = this.#state;
    state.stopping = true;
    this.#leases.stop();
    for (const connection of [...this.#connections])
      connection.peer.close(Errno.ESHUTDOWN, 'the server stops');
    while (state.ending.size > 0) await Promise.all(state.ending);
    if (!state.volume.info.readOnly) await state.commit.stop();
  }
}
