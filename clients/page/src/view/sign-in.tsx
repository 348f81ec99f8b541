/** The page of nobody. */

import { setLanguage, signIn } from "../model/app.js";
import { language, words } from "../words/words.js";
import { Form } from "./form.js";
import { Icon } from "./icons.js";
import { Notices } from "./notices.js";

export function SignIn() {
  const other = language.value === "zh" ? "en" : "zh";
  const { welcome, introduction, yourName, nameHint, signIn: button, otherLanguage } = words();
  return (
    <main id="sign-in">
      <div class="card">
        <span class="logo">
          <Icon name="chat" />
        </span>
        <h1>{welcome}</h1>
        <p>{introduction}</p>
        <Form label={yourName} button={button} hint={nameHint} isUser isMain submit={signIn} />
        <button type="button" class="link" lang={other === "zh" ? "zh-CN" : "en"} onClick={() => setLanguage(other)}>
          {otherLanguage}
        </button>
      </div>
      <Notices />
    </main>
  );
}
