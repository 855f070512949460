import { array, assert, nat, property, tuple } from "fast-check";
import { expect, test } from "vitest";
import { calibrate, estimateTokens, rawEstimateOfChat, rawEstimateOfCompletion, UNCALIBRATED } from "./tokens.ts";

test("text counts four characters a token, messages and images their share", () => {
  const raw = rawEstimateOfChat({
    model: "m",
    messages: [
      { role: "system", content: "a".repeat(40) },
      {
        role: "user",
        content: [
          { type: "text", text: "b".repeat(8) },
          { type: "image_url", image_url: { url: "data:," } },
        ],
      },
    ],
  });
  expect(raw).toEqual({ tokens: 4 + 4 + 576 + 12, exact: false });
});

test("token ids are counted and never corrected", () => {
  const raw = rawEstimateOfCompletion({ model: "m", prompt: [1, 2, 3] });
  expect(raw).toEqual({ tokens: 3, exact: true });
  const off = { ratio: 3, samples: 9 };
  expect(estimateTokens(raw, off)).toBe(3);
  expect(calibrate(off, raw, 50)).toBe(off);
});

test("the first report is taken whole, later ones move the estimate slowly", () => {
  const raw = { tokens: 100, exact: false };
  const first = calibrate(UNCALIBRATED, raw, 150);
  expect(estimateTokens(raw, first)).toBe(150);
  const second = calibrate(first, raw, 100);
  expect(estimateTokens(raw, second)).toBe(147);
});

test("no report, however wrong, takes the ratio out of its bounds", () => {
  assert(
    property(array(tuple(nat(1_000_000), nat(1_000_000))), (reports) => {
      let calibration = UNCALIBRATED;
      for (const [tokens, actual] of reports) calibration = calibrate(calibration, { tokens, exact: false }, actual);
      return calibration.ratio >= 0.125 && calibration.ratio <= 8;
    }),
  );
});
