/** The language of the page. */

import { signal } from "@preact/signals";
import { chinese } from "./chinese.js";
import { english } from "./english.js";

export type Words = typeof english;

const LANGUAGES = { en: english, zh: chinese };

export type Language = keyof typeof LANGUAGES;

export const language = signal<Language>(navigator.language.startsWith("zh") ? "zh" : "en");

/** The texts in the current language. A component that calls this is drawn again when the language changes. */
export const words = (): Words => LANGUAGES[language.value];

/** The locale of dates: that of the browser, if it is of the current language. */
export const locale = (): string =>
  navigator.language.startsWith(language.value) ? navigator.language : language.value;
