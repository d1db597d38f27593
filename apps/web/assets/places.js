// Addresses of rooms: /r/ROOM, percent-encoded.

/** The address of a room on this server. */
export function addressOf(room) {
  const name = encodeURIComponent(room);
  // Browsers and proxies take . and .. for folders, however they are written.
  return room.split("/").some((part) => part === "." || part === "..") ? `/r/?room=${name}` : `/r/${name}`;
}

/** The room that an address leads to, in Unicode's form NFC; null if that is none. Whether there can be such a room is not looked at. */
export function roomAt({ pathname, search }) {
  if (!pathname.startsWith("/r/")) return null;
  const written = pathname.slice("/r/".length);
  try {
    const name = written === "" ? new URLSearchParams(search).get("room") : decodeURIComponent(written);
    return name ? name.normalize("NFC") : null;
  } catch {
    return null; // not percent-encoded UTF-8
  }
}
