/** Time and chance as arguments, so that tests control both. */

/** A timer that was set. */
export interface Timer {
  cancel(): void;
}

/** Tells the time and sets timers. */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  now(): number;
  /** Calls `wake` once, after this many milliseconds. */
  after(ms: number, wake: () => void): Timer;
}

/** The clock of this machine. */
export const systemClock: Clock = {
  now: () => Date.now(),
  after(ms, wake) {
    const handle = setTimeout(wake, ms);
    return { cancel: () => clearTimeout(handle) };
  },
};

/**
 * The wait before a repeat: `baseMs` at first, doubled each time, up to `maxMs`. The client waits a random part of it,
 * from half to all.
 */
export interface Backoff {
  baseMs: number;
  maxMs: number;
}

/** What the wait before a repeat depends on. */
export interface Repeats {
  timing: { backoff: Backoff };
  random: () => number;
}

/** The wait before a repeat, between half of the full wait and all of it. `attempt` 0 is the first repeat. */
export function backoffMs({ timing: { backoff }, random }: Repeats, attempt: number): number {
  const full = Math.min(backoff.maxMs, backoff.baseMs * 2 ** attempt);
  return full * (0.5 + random() / 2);
}

/**
 * Calls `end` once: after this long, or when the signal is aborted. Returns the function that prevents this, and leaves
 * no timer and no listener.
 */
export function within(clock: Clock, ms: number, signal: AbortSignal | undefined, end: () => void): () => void {
  const timer = clock.after(ms, ended);
  signal?.addEventListener("abort", ended);
  if (signal?.aborted) ended();
  function cancel(): void {
    timer.cancel();
    signal?.removeEventListener("abort", ended);
  }
  function ended(): void {
    cancel();
    end();
  }
  return cancel;
}

/** Resolves after this long, or when the signal is aborted. */
export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => within(clock, ms, signal, resolve));
}
