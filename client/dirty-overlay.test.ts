import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cutPieces } from './cut.js';
import { DirtyOverlay, type Piece } from './dirty-overlay.js';

const WINDOW = 64;
const SPACE = 512;

interface Model {
  readonly bytes: Buffer;
  readonly isWritten: Uint8Array;
}
const newModel = (): Model => ({ bytes: Buffer.alloc(SPACE), isWritten: new Uint8Array(SPACE) });

function apply(model: Model, piece: { offset: number; data: Buffer }): void {
  piece.data.copy(model.bytes, piece.offset);
  model.isWritten.fill(1, piece.offset, piece.offset + piece.data.length);
}
/** What the overlay gives for the whole space, unwritten bytes as 0, and which bytes it says are written. */
function readAll(overlay: DirtyOverlay): Model {
  const seen = newModel();
  seen.isWritten.fill(1);
  overlay.read(0, seen.bytes, (start, end) => {
    seen.bytes.fill(0, start, end);
    seen.isWritten.fill(0, start, end);
  });
  return seen;
}

const write = fc.record({
  kind: fc.constant('write' as const),
  offset: fc.oneof(
    fc.nat(SPACE - 1),
    fc.nat(SPACE / WINDOW - 1).map((n) => n * WINDOW),
  ),
  length: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constant(WINDOW), fc.integer({ min: 1, max: 200 })),
  byte: fc.integer({ min: 1, max: 255 }),
  isGiven: fc.boolean(),
});
const operation = fc.oneof(
  { weight: 8, arbitrary: write },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('clip' as const), size: fc.nat(SPACE) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('takeFull' as const) }) },
);

describe('dirty overlay', () => {
  it('keeps the memory of a whole window that was given to it', () => {
    const overlay = new DirtyOverlay(WINDOW);
    const data = Buffer.alloc(WINDOW, 7);
    overlay.write(WINDOW, data, true);
    expect(overlay.heldBytes).toBe(WINDOW);
    expect(overlay.takeFull()[0]?.data.buffer).toBe(data.buffer);
  });

  it('gives back exactly what was written last, and knows what was not written', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const overlay = new DirtyOverlay(WINDOW);
        const model = newModel();
        for (const op of operations) {
          if (op.kind === 'write') {
            const data = Buffer.alloc(Math.min(op.length, SPACE - op.offset), op.byte);
            apply(model, { offset: op.offset, data });
            overlay.write(op.offset, data, op.isGiven);
            if (!op.isGiven) data.fill(0); // It must have been copied.
          } else if (op.kind === 'clip') {
            model.bytes.fill(0, op.size);
            model.isWritten.fill(0, op.size);
            overlay.clip(op.size);
          } else
            for (const piece of overlay.takeFull()) {
              expect(piece.data.length).toBe(WINDOW);
              expect(piece.offset % WINDOW).toBe(0);
              expect(piece.data.equals(model.bytes.subarray(piece.offset, piece.offset + WINDOW))).toBe(true);
              model.bytes.fill(0, piece.offset, piece.offset + WINDOW);
              model.isWritten.fill(0, piece.offset, piece.offset + WINDOW);
            }
        }
        const seen = readAll(overlay);
        expect(seen.isWritten).toEqual(model.isWritten);
        expect(seen.bytes.equals(model.bytes)).toBe(true);
        const pieces = overlay.takeAll();
        expect(overlay.heldBytes).toBe(0);
        const rebuilt = newModel();
        let end = -1;
        for (const piece of pieces) {
          expect(piece.offset).toBeGreaterThanOrEqual(end);
          end = piece.offset + piece.data.length;
          apply(rebuilt, piece);
        }
        expect(rebuilt.bytes.equals(model.bytes)).toBe(true);
        expect(rebuilt.isWritten).toEqual(model.isWritten);
      }),
      { numRuns: 400 },
    );
  });

  it('counts the memory it holds', () => {
    const overlay = new DirtyOverlay(WINDOW);
    overlay.write(10, Buffer.alloc(20));
    overlay.write(100, Buffer.alloc(20));
    overlay.write(20, Buffer.alloc(90));
    const held = overlay.heldBytes;
    expect(held).toBeGreaterThanOrEqual(110);
    overlay.clip(0);
    expect(overlay.heldBytes).toBe(0);
    expect(overlay.isEmpty).toBe(true);
  });
});

describe('cutting', () => {
  const MIB = 1024 * 1024;
  /** Pieces in order that do not overlap and do not cross windows. */
  const pieces = fc
    .array(
      fc.record({ gap: fc.oneof(fc.constant(0), fc.nat(300_000)), length: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.nat(MIB)) }),
      {
        maxLength: 30,
      },
    )
    .map((list) => {
      const out: Piece[] = [];
      let at = 0;
      list.forEach(({ gap, length }, index) => {
        at += gap;
        const size = Math.min(length, MIB - (at % MIB));
        if (size > 0) out.push({ offset: at, data: Buffer.alloc(size, (index % 250) + 1) });
        at += size;
      });
      return out;
    });

  it('puts every byte into exactly one chunk, at the place its extent says', () => {
    fc.assert(
      fc.property(pieces, (given) => {
        const total = given.reduce((sum, piece) => sum + piece.data.length, 0);
        let covered = 0;
        const chunks = cutPieces(given, MIB);
        for (const { payload, extents } of chunks) {
          expect(payload.length).toBeLessThanOrEqual(MIB);
          let at = 0;
          for (const extent of extents) {
            expect(extent.chunkOffset).toBe(at);
            at += extent.length;
            covered += extent.length;
          }
          expect(at).toBe(payload.length);
        }
        expect(covered).toBe(total);
        for (const piece of given) {
          const extents = chunks.flatMap(({ payload, extents: list }) => list.map((extent) => ({ payload, extent })));
          const home = extents.filter(({ extent }) => extent.offset <= piece.offset && piece.offset < extent.offset + extent.length);
          expect(home).toHaveLength(1);
          const { payload, extent } = home[0]!;
          const start = extent.chunkOffset + piece.offset - extent.offset;
          expect(payload.subarray(start, start + piece.data.length).equals(piece.data)).toBe(true);
        }
      }),
      { numRuns: 150 },
    );
  });

  it('makes a full aligned window a chunk of its own, whatever is written around it', () => {
    const full = Buffer.alloc(MIB, 7);
    const alone = cutPieces([{ offset: MIB, data: full }], MIB);
    const amid = cutPieces(
      [
        { offset: MIB - 10, data: Buffer.alloc(10, 1) },
        { offset: MIB, data: full },
        { offset: 2 * MIB, data: Buffer.alloc(10, 2) },
      ],
      MIB,
    );
    expect(alone).toHaveLength(1);
    expect(amid.filter(({ payload }) => payload.equals(full))).toHaveLength(1);
  });

  it('packs scattered small pieces into few chunks', () => {
    const scattered = Array.from({ length: 640 }, (_, i) => ({ offset: i * 40_960, data: Buffer.alloc(4096, i % 251) }));
    expect(cutPieces(scattered, MIB).length).toBeLessThanOrEqual(10);
  });
});
