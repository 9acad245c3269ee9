// The payload of a page: JSON beside one compressed block of numbers.

const KINDS = {
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  int16: Int16Array,
  int32: Int32Array,
  float32: Float32Array,
};

/** Base64 text as bytes. */
export function bytesOf(base64) {
  const text = atob(base64.trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** zlib's format, unpacked. */
export async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * `tree` with each `{array: kind, at, count}` in it replaced by that typed array of `bytes`; each array
 * begins at a multiple of 4 bytes, little-endian.
 */
export function withArrays(tree, bytes) {
  if (Array.isArray(tree) || tree === null || typeof tree !== "object") return tree;
  if (typeof tree.array === "string") {
    return new KINDS[tree.array](bytes.buffer, bytes.byteOffset + tree.at, tree.count);
  }
  return Object.fromEntries(Object.entries(tree).map(([name, value]) => [name, withArrays(value, bytes)]));
}

/** The data for a player, of a payload `{..., block}` as the page carries it. */
export async function unpack(payload) {
  const { block, ...tree } = payload;
  return withArrays(tree, await inflate(bytesOf(block)));
}
