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

/** The wait before a repeat, between half of the full wait and all of it. `attempt` 0 is the first repeat. */
export function backoffMs({ baseMs, maxMs }: Backoff, attempt: number, random: () => number): number {
  const full = Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30));
  return full * (0.5 + random() / 2);
}

/** Resolves after this long, or when the signal is aborted. */
export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = clock.after(ms, done);
    signal.addEventListener("abort", done);
    function done(): void {
      timer.cancel();
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}
