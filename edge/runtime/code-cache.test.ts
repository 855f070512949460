import { expect, test } from "vitest";
import { CodeCache } from "./code-cache.ts";

const of = (version: string, tenant = "ten_a") => ({ tenant, version });

test("beyond its limit the oldest code goes; what is larger than the limit is not kept", () => {
  const cache = new CodeCache(10);
  cache.put(of("v1"), "1234");
  cache.put(of("v2"), "1234");
  cache.put(of("v2"), "12345");
  expect([cache.get(of("v1")), cache.get(of("v2"))]).toEqual(["1234", "12345"]);
  cache.put(of("v3"), "12");
  expect([cache.get(of("v1")), cache.get(of("v2")), cache.get(of("v3"))]).toEqual([undefined, "12345", "12"]);
  cache.put(of("v4"), "12345678901");
  expect([cache.get(of("v3")), cache.get(of("v4"))]).toEqual([undefined, undefined]);
});

test("another tenant's version is another version", () => {
  const cache = new CodeCache(10);
  cache.put(of("v1"), "a");
  expect(cache.get(of("v1", "ten_b"))).toBeUndefined();
});
