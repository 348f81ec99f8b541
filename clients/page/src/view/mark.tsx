/** The mark that tells what has become of a message of the user. */

import { words } from "../words/words.js";
import { Icon } from "./icons.js";

export type SendState = "waiting" | "sending" | "stored" | "read" | "failed" | "unsure";

export function Mark({ state }: { state: SendState }) {
  const text = words().sendStates[state];
  return (
    <span class={`mark mark-${state}`} role="img" aria-label={text} title={text}>
      <Icon name={state} />
    </span>
  );
}
