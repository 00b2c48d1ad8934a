// For a receiver of callbacks. Node's own modules are enough.
import { createHmac, createPublicKey, timingSafeEqual, verify } from "node:crypto";

// Seconds that the sender's clock and ours may be apart: what is older was kept by somebody and sent again.
const TOLERANCE_SECONDS = 300;

/// Whether a callback is genuine. `key` is the whsec_... that you share with the sender, or a whpk_... that it publishes;
/// `body` is a Buffer of what came, byte for byte.
export function isGenuine(key, headers, body) {
  const [id, timestamp] = [headers["webhook-id"], headers["webhook-timestamp"]];
  const age = Math.abs(Date.now() / 1000 - Number(timestamp));
  if (!/^\d+$/.test(timestamp) || age > TOLERANCE_SECONDS) return false;
  const [kind, text] = key.split("_");
  const secret = Buffer.from(text, "base64");
  const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
  return headers["webhook-signature"].split(" ").some((part) => {
    const [version, encoded] = part.split(",");
    const signature = Buffer.from(encoded ?? "", "base64");
    if (kind === "whsec" && version === "v1") {
      const expected = createHmac("sha256", secret).update(signed).digest();
      return signature.length === expected.length && timingSafeEqual(signature, expected);
    }
    if (kind === "whpk" && version === "v1a") {
      const jwk = { kty: "OKP", crv: "Ed25519", x: secret.toString("base64url") };
      return verify(null, signed, createPublicKey({ key: jwk, format: "jwk" }), signature);
    }
    return false;
  });
}
