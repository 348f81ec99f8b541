/** Time and chance in tests. */

import assert from "node:assert/strict";

import type { Clock } from "../src/clock.js";
import { EPOCH_MS } from "./fakes.js";

/** The same numbers between 0 and 1 each time: mulberry32. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Waits until a condition holds. */
export async function until(isSo: () => boolean, ms = 10_000, say: () => string = String): Promise<void> {
  for (const start = Date.now(); !isSo(); ) {
    assert(Date.now() - start < ms, `it took too long: ${say === String ? isSo.toString() : say()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

interface Alarm {
  at: number;
  wake: () => void;
}

/** A clock whose time passes only when told. */
export class FakeClock implements Clock {
  #now = EPOCH_MS;
  readonly #alarms = new Set<Alarm>();

  now(): number {
    return this.#now;
  }

  after(ms: number, wake: () => void): { cancel(): void } {
    const alarm = { at: this.#now + ms, wake };
    this.#alarms.add(alarm);
    return { cancel: () => this.#alarms.delete(alarm) };
  }

  /** The number of timers that are set. */
  get pending(): number {
    return this.#alarms.size;
  }

  /** The machine sleeps: its clock goes on, and its timers do not. */
  async sleep(ms: number): Promise<void> {
    this.#now += ms;
    for (const alarm of this.#alarms) alarm.at += ms;
  }

  /** Lets time pass. Timers fire in order, and promises settle in between. */
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const due = [...this.#alarms].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#alarms.delete(due);
      this.#now = due.at;
      due.wake();
      await settle();
    }
    this.#now = end;
  }
}

/** Lets all promises settle that can. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
