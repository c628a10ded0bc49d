/** Each worker chooses ports from a range of its own: those it has chosen but not yet opened, or whose process is dead for a while, stay its own. */
const RANGES = 8;
const FIRST = 20_000;
const PORTS = 1_500;

const first = FIRST + ((Number(process.env.VITEST_POOL_ID ?? 1) - 1) % RANGES) * PORTS;
process.env.HOLDFAST_PORTS ??= `${first}-${first + PORTS - 1}`;
