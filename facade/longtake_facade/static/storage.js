/** A place in this browser that keeps values, images too, under names: IndexedDB with one store. */

const NAME = "longtake";
const STORE = "kept";

/** @returns {Promise<IDBDatabase>} */
function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** @type {Promise<IDBDatabase> | null} */
let database = null;

/** @param {IDBTransactionMode} mode @param {(store: IDBObjectStore) => IDBRequest} work */
async function transaction(mode, work) {
  database ??= open();
  const running = (await database).transaction(STORE, mode);
  const request = work(running.objectStore(STORE));
  return new Promise((resolve, reject) => {
    running.oncomplete = () => resolve(request.result);
    running.onabort = () => reject(running.error);
  });
}

/** What is kept under a name; undefined for nothing. @param {string} name @returns {Promise<any>} */
export const load = (name) => transaction("readonly", (store) => store.get(name));

/** @param {string} name @param {unknown} value */
export const keep = (name, value) => transaction("readwrite", (store) => store.put(value, name));
