/** The icons of the page. They are decoration: the control around one has a label. */

const PATHS = {
  back: "M15 5l-7 7 7 7",
  plus: "M12 5v14M5 12h14",
  menu: "M4 7h16M4 12h16M4 17h16",
  more: "M12 5.5v.01M12 12v.01M12 18.5v.01",
  send: "M4 12l16-8-6 16-3-6z M11 14l9-10",
  down: "M12 5v14M5 12l7 7 7-7",
  close: "M6 6l12 12M18 6L6 18",
  reply: "M9 7L4 12l5 5M4 12h9a6 6 0 0 1 6 6v1",
  waiting: "M12 7v5l3 2 M12 3a9 9 0 1 0 0 18 9 9 0 1 0 0-18",
  sending: "M12 7v5l3 2 M12 3a9 9 0 1 0 0 18 9 9 0 1 0 0-18",
  stored: "M5 12.5l4.5 4.5L19 7.5",
  read: "M2 12.5l4.5 4.5L16 7.5M11 16l1 1L22 7.5",
  failed: "M12 7v6M12 16.5v.01 M12 3a9 9 0 1 0 0 18 9 9 0 1 0 0-18",
  unsure: "M12 7v6M12 16.5v.01 M12 3a9 9 0 1 0 0 18 9 9 0 1 0 0-18",
  picture: "M4 5h16v14H4z M4 16l5-5 4 4 3-3 4 4",
  chat: "M4 5h16v11H9l-5 4z",
};

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class={`icon icon-${name}`} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
