// The page begins here.
import "./i18n/browser";

import { language } from "./i18n/language";
import { savedChoice } from "./ui/element";
import { applyTheme } from "./ui/theme";
import "./ui/app";

applyTheme();
const saved = savedChoice("language") ?? navigator.language;
language.set(saved.startsWith("zh") ? "zh" : "en");
