/** What was done, and what failed. */

import { notices, type Notice } from "../model/notices.js";
import { words } from "../words/words.js";
import { Icon } from "./icons.js";

export function Notices() {
  const all = notices.all.value;
  return (
    <div class="notices">
      <div role="alert">{all.filter(({ isError }) => isError).map(line)}</div>
      <div role="status">{all.filter(({ isError }) => !isError).map(line)}</div>
    </div>
  );
}

function line(notice: Notice) {
  return (
    <p key={notice.id} class={notice.isError ? "error" : undefined}>
      <span dir="auto">{notice.text}</span>
      <button type="button" class="icon-button" aria-label={words().close} onClick={() => notices.close(notice)}>
        <Icon name="close" />
      </button>
    </p>
  );
}
