// The language of the browser. uPlot asks for it while it is loaded, and makes a formatter for it; where the system has
// none (`LANG=C`), some browsers say "C" or "en-US@posix", which no formatter takes, and nothing would be loaded at all.
// So this comes before all other imports.
import { isKnown } from "./language";

if (!isKnown(navigator.language)) Object.defineProperty(navigator, "language", { value: "en" });
