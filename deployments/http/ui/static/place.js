// Where one is: the part of the page and the ids shown in it, in the address, so that a reload finds
// them again; and small drafts, in the tab's own storage.

const PLACES = "timbre.places";

/** {tab, and the ids}. */
export function here() {
  const [tab, query] = location.hash.slice(1).split("?");
  return { tab, ids: Object.fromEntries(new URLSearchParams(query)) };
}

/** Note the ids that a part shows; its link leads back to them. Empty ones are left out. */
export function stay(tab, ids) {
  const kept = Object.entries(ids).filter(([, value]) => value);
  const query = new URLSearchParams(kept).toString();
  const hash = `#${tab}${query && `?${query}`}`;
  sessionStorage.setItem(PLACES, JSON.stringify({ ...places(), [tab]: hash }));
  document.querySelector(`nav a[data-tab="${tab}"]`).href = hash;
  if (here().tab === tab) history.replaceState(null, "", hash);
}

/** The address of a part, as it was left. */
export function places() {
  return JSON.parse(sessionStorage.getItem(PLACES) ?? "{}");
}

/** Keep what is written in a field over a reload. */
export function keepDraft(field) {
  const key = `timbre.draft.${field.id}`;
  const kept = sessionStorage.getItem(key);
  if (
    kept !== null &&
    (field.tagName !== "SELECT" || [...field.options].some((o) => o.value === kept))
  ) {
    field.value = kept;
  }
  const keep = () => {
    try {
      sessionStorage.setItem(key, field.value);
    } catch {
      sessionStorage.removeItem(key); // a book: more than a tab may keep
    }
  };
  field.addEventListener("input", keep);
  field.addEventListener("change", keep);
}

/** Keep a file over a reload; null removes it. Never fails: without a store it is lost then. */
export async function keepFile(name, file) {
  await inStore("readwrite", (store) => (file ? store.put(file, name) : store.delete(name)));
}

/** A file that was kept, or undefined. */
export async function keptFile(name) {
  return inStore("readonly", (store) => store.get(name));
}

async function inStore(mode, act) {
  try {
    const opening = indexedDB.open("timbre", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("files");
    const base = await settled(opening);
    try {
      return await settled(act(base.transaction("files", mode).objectStore("files")));
    } finally {
      base.close();
    }
  } catch {
    return undefined; // a private window has no store
  }
}

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
