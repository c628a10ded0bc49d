/** Every demo, in the order in which they are best watched. */
import { bitRot } from './bit-rot.js';
import { coordinatorLost } from './coordinator-lost.js';
import { coordinatorRestart } from './coordinator-restart.js';
import { diskFull } from './disk-full.js';
import { drain } from './drain.js';
import { lostDisk } from './lost-disk.js';
import { nodeHang } from './node-hang.js';
import { nodeLoss } from './node-loss.js';
import { rollingRestart } from './rolling-restart.js';
import { split } from './split.js';
import type { Demo } from './stage.js';

export const demos: readonly Demo[] = [
  nodeLoss,
  nodeHang,
  bitRot,
  diskFull,
  lostDisk,
  drain,
  coordinatorRestart,
  coordinatorLost,
  split,
  rollingRestart,
];
