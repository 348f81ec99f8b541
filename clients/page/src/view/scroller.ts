/**
 * Keeps the place of a scrolled log. While its end is on the screen, the end stays there. Otherwise the first message
 * on the screen stays where it is, whatever is added, loaded, hidden or resized above or below it.
 */

export interface ScrollerEvents {
  /** Called when the end comes onto the screen, or leaves it. */
  atEnd: (isAtEnd: boolean) => void;
  /** Called with the id of the last message on the screen. */
  seen: (id: string) => void;
  /** Called when the start of the log is near. */
  nearStart: () => void;
}

/** How near the end counts as the end. */
const END_PX = 60;

/** How near the start counts as near: some screens, so that older messages come before the user is there. */
const START_PX = 1_500;

export class Scroller {
  readonly #container: HTMLElement;
  readonly #content: HTMLElement;
  readonly #events: ScrollerEvents;
  readonly #resizes: ResizeObserver;
  readonly #changes: MutationObserver;
  readonly #end = new AbortController();
  #isAtEnd = true;
  #anchor: { element: Element; top: number } | undefined;
  /** Where the log was scrolled to when it was last looked at. */
  #scrollTop = 0;

  constructor(container: HTMLElement, content: HTMLElement, events: ScrollerEvents) {
    this.#container = container;
    this.#content = content;
    this.#events = events;
    const { signal } = this.#end;
    container.addEventListener("scroll", () => this.#scrolled(), { signal, passive: true });
    document.addEventListener("visibilitychange", () => this.#look(), { signal });
    this.#resizes = new ResizeObserver(() => this.#settle());
    this.#resizes.observe(content);
    this.#resizes.observe(container);
    // A new message, or a part that is drawn again, may change no size.
    this.#changes = new MutationObserver(() => this.#settle());
    this.#changes.observe(content, { childList: true, subtree: true });
  }

  close(): void {
    this.#end.abort();
    this.#resizes.disconnect();
    this.#changes.disconnect();
  }

  toEnd(): void {
    this.#setAtEnd(true);
    this.#scrollTop = this.#container.scrollTop;
    this.#settle();
  }

  /** Shows an element at this distance below the top. */
  show(element: Element, below: number): void {
    this.#setAtEnd(false);
    this.#anchor = { element, top: below };
    this.#scrollTop = this.#container.scrollTop;
    this.#settle();
    this.#scrolled();
  }

  /** Restores the place after a change. */
  #settle(): void {
    const scrolled = this.#scrolledSince();
    if (scrolled < 0) this.#setAtEnd(false);
    if (this.#isAtEnd) {
      this.#container.scrollTop = this.#container.scrollHeight;
    } else if (this.#anchor?.element.isConnected) {
      const moved = this.#topOf(this.#anchor.element) - (this.#anchor.top - scrolled);
      if (Math.abs(moved) >= 1) this.#container.scrollTop += moved;
    }
    this.#look();
  }

  /**
   * Returns how far the user has scrolled since the last look, if the event is still to come. If the log has become
   * shorter, its end may be shown because the browser scrolled back. That does not count.
   */
  #scrolledSince(): number {
    const scrolled = this.#container.scrollTop - this.#scrollTop;
    return scrolled < 0 && this.#isEndShown() ? 0 : scrolled;
  }

  #scrolled(): void {
    this.#setAtEnd(this.#isEndShown());
    this.#look();
  }

  #isEndShown(): boolean {
    const { scrollHeight, scrollTop, clientHeight } = this.#container;
    return scrollHeight - scrollTop - clientHeight < END_PX;
  }

  #setAtEnd(isAtEnd: boolean): void {
    if (isAtEnd === this.#isAtEnd) return;
    this.#isAtEnd = isAtEnd;
    this.#events.atEnd(isAtEnd);
  }

  /** Remembers what is on the screen, and tells it. */
  #look(): void {
    const { clientHeight, scrollTop } = this.#container;
    this.#scrollTop = scrollTop;
    if (clientHeight === 0) return;
    const messages = [...this.#content.querySelectorAll<HTMLElement>("[data-id]")];
    const first = messages.find((message) => this.#topOf(message) + message.offsetHeight > 0);
    this.#anchor = first && { element: first, top: this.#topOf(first) };
    const last = messages.findLast((message) => this.#topOf(message) + message.offsetHeight / 2 < clientHeight);
    const id = last?.dataset["id"];
    if (id && document.visibilityState === "visible") this.#events.seen(id);
    if (scrollTop < START_PX) this.#events.nearStart();
  }

  #topOf(element: Element): number {
    return element.getBoundingClientRect().top - this.#container.getBoundingClientRect().top;
  }
}
