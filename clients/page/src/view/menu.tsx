/** A button that opens a list of actions. */

import { useId, useRef } from "preact/hooks";
import { Icon, type IconName } from "./icons.js";

export interface Action {
  text: string;
  act: () => void;
  isDangerous?: boolean;
  /** The language of the text, if it is not that of the page. */
  lang?: string;
}

interface MenuProps {
  label: string;
  icon: IconName;
  actions: readonly Action[];
  /** Whether the keyboard's Tab reaches the button. */
  tabIndex?: number;
}

/** The space between a menu and its button, and the edge of the screen. */
const GAP_PX = 4;

export function Menu({ label, icon, actions, tabIndex = 0 }: MenuProps) {
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const items = () => [...(list.current?.querySelectorAll("button") ?? [])];

  /** Below the button, or above it if there is no room. */
  function place(): void {
    const [at, menu] = [button.current!.getBoundingClientRect(), list.current!];
    const below = at.bottom + GAP_PX;
    const top = below + menu.offsetHeight < innerHeight ? below : at.top - GAP_PX - menu.offsetHeight;
    const left = Math.min(at.right - menu.offsetWidth, innerWidth - menu.offsetWidth - GAP_PX);
    menu.style.top = `${Math.max(GAP_PX, top)}px`;
    menu.style.left = `${Math.max(GAP_PX, left)}px`;
  }

  function toggled(event: Event): void {
    const isOpen = (event as ToggleEvent).newState === "open";
    button.current?.setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) return;
    place();
    items()[0]?.focus();
  }

  function pressed(event: KeyboardEvent): void {
    const all = items();
    const at = all.indexOf(document.activeElement as HTMLButtonElement);
    const steps: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 };
    const to = steps[event.key];
    event.stopPropagation();
    if (event.key === "Tab") list.current?.hidePopover();
    if (to === undefined) return;
    event.preventDefault();
    all.at(to % all.length)?.focus();
  }

  function choose(action: Action): void {
    list.current?.hidePopover();
    action.act();
  }

  return (
    <>
      <button
        ref={button}
        type="button"
        class="icon-button"
        aria-label={label}
        title={label}
        aria-haspopup="menu"
        aria-expanded="false"
        tabIndex={tabIndex}
        popovertarget={id}
      >
        <Icon name={icon} />
      </button>
      <div
        ref={list}
        id={id}
        class="menu"
        role="menu"
        aria-label={label}
        popover="auto"
        onToggle={toggled}
        onKeyDown={pressed}
      >
        {actions.map((action) => (
          <button
            type="button"
            role="menuitem"
            tabIndex={-1}
            lang={action.lang}
            class={action.isDangerous ? "dangerous" : undefined}
            onClick={() => choose(action)}
          >
            {action.text}
          </button>
        ))}
      </div>
    </>
  );
}
