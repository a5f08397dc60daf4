// SPDX-License-Identifier: GPL-2.0-or-later
//
// The simulated server's volume: the model of a volume, whose reads and writes take time and whose reads may answer after
// later batches; and which misbehaves now and then, if the scenario says so: it refuses a batch or one change of it, fails
// to read, fails to commit. What it refuses or fails it has not done.

import { crc32 } from 'node:zlib';
import { MemoryVolume } from '../../ts/store/memory_volume.ts';
import type { ApplyResult, BatchParts, DataRead, ItemsRead } from '../../ts/store/volume.ts';
import type { Crc32c } from '../../ts/util/crc32c.ts';
import { Errno } from '../../ts/util/errno.ts';
import { FsError } from '../../ts/util/errors.ts';
import type { Prng } from '../../ts/util/prng.ts';
import type { Key } from '../../ts/util/range.ts';
import type { FileExtent } from '../../ts/wire/message.ts';
import type { Trouble } from './coverage.ts';
import type { Scenario } from './scenario.ts';
import type { VirtualTime } from './virtual_time.ts';

/** The sum in use: any function will do as long as both ends have the same, and this one is fast. */
export const sum: Crc32c = (bytes, previous = 0) => crc32(bytes, previous);

export interface SimulatedVolumeOptions {
  readonly time: VirtualTime;
  readonly random: Prng;
  readonly scenario: Scenario;
  readonly count: (what: string) => void;
}

export class SimulatedVolume extends MemoryVolume {
  /** Whether it misbehaves now. */
  isPlanting = false;
  readonly #options: SimulatedVolumeOptions;

  constructor(options: SimulatedVolumeOptions) {
    const { time, random, scenario } = options;
    const delays = {
      read: scenario.readDelayMs,
      apply: scenario.applyDelayMs,
      commit: scenario.commitDelayMs,
    };
    super({
      crc32c: sum,
      deviceTotal: 2 ** 40,
      before: async (operation) => {
        await wait(time, random, delays[operation]);
        if (operation === 'commit') this.#mayFail('a commit fails', scenario.commitFailsOneIn);
      },
    });
    this.#options = options;
  }

  override async readItems(tree: number, start: Key, end: Key, bytesMax: number): Promise<ItemsRead> {
    this.#mayFail('a read fails', this.#options.scenario.readFailsOneIn);
    const read = await super.readItems(tree, start, end, bytesMax);
    await this.#late();
    return read;
  }

  override async readData(extents: readonly FileExtent[]): Promise<DataRead> {
    this.#mayFail('a read fails', this.#options.scenario.readFailsOneIn);
    const read = await super.readData(extents);
    await this.#late();
    return read;
  }

  /** @param grants - null for what the server itself does, which is never refused */
  override async apply(batch: BatchParts, grants: Uint8Array | null, promised: number): Promise<ApplyResult> {
    const { random, scenario } = this.#options;
    if (grants === null || !this.#happens('a batch is refused', scenario.refusesOneIn))
      return super.apply(batch, grants, promised);
    await this.#late();
    const isWhole = random.oneIn(4);
    const index = isWhole ? batch.changeCount : random.below(batch.changeCount);
    return { refused: { index, errno: random.pick([Errno.EIO, Errno.ENOSPC]), text: 'planted' }, cost: 0 };
  }

  #happens(trouble: Trouble, oneIn: number): boolean {
    if (!this.isPlanting || oneIn === 0 || !this.#options.random.oneIn(oneIn)) return false;
    this.#options.count(`trouble: ${trouble}`);
    return true;
  }

  #mayFail(trouble: Trouble, oneIn: number): void {
    if (this.#happens(trouble, oneIn)) throw new FsError(Errno.EIO, 'planted');
  }

  #late(): Promise<void> {
    const { time, random, scenario } = this.#options;
    return wait(time, random, scenario.readDelayMs);
  }
}

function wait(time: VirtualTime, random: Prng, ms: number): Promise<void> {
  if (ms === 0) return Promise.resolve();
  return time.sleep(((random.oneIn(8) ? 1 : 0.1) * ms * random.below(1024)) / 1024);
}
