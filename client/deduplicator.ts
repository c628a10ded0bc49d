/** Asks the coordinator which chunks exist already, many in one call: while one question is under way the next one gathers. */
import type { ChunkId, ChunkLocation } from '../protocol/entities.js';
import type { Session } from './session.js';

const MAX_IDS = 500;

interface Question {
  readonly id: ChunkId;
  readonly resolve: (location: ChunkLocation | undefined) => void;
  readonly reject: (error: unknown) => void;
}

export class Deduplicator {
  private questions: Question[] = [];
  private isAsking = false;

  constructor(private readonly session: Session) {}

  /** Where a chunk lies already (pinned for us until our next commit), or undefined: then it must be uploaded. */
  find(id: ChunkId): Promise<ChunkLocation | undefined> {
    return new Promise((resolve, reject) => {
      this.questions.push({ id, resolve, reject });
      if (!this.isAsking) this.ask();
    });
  }

  private ask(): void {
    const asked = this.questions.splice(0, MAX_IDS);
    if (asked.length === 0) return;
    this.isAsking = true;
    this.session
      .call('have', { chunks: [...new Set(asked.map((question) => question.id))] })
      .then(
        ({ present }) => {
          const found = new Map(present.map((location) => [location.chunk, location]));
          for (const { id, resolve } of asked) resolve(found.get(id));
        },
        (error: unknown) => {
          for (const { reject } of asked) reject(error);
        },
      )
      .finally(() => {
        this.isAsking = false;
        this.ask();
      });
  }
}
