// What React Native adds to its engine, as far as the client uses it. The AbortController is the one that it has.
import { AbortController, AbortSignal } from "abort-controller/dist/abort-controller.js";

class URL {
  constructor(url) {
    this.href = url.endsWith("/") ? url : `${url}/`;
  }
}
const console = { assert() {}, debug() {}, error: print, warn: print };
Object.assign(globalThis, { AbortController, AbortSignal, URL, console });
