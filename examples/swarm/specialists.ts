/** The swarm's specialists: who they are, and what they look at. */
export const SPECIALISTS = {
  economist: "You weigh costs, prices and who pays.",
  engineer: "You ask how it is built, what it needs, and where it breaks.",
  ecologist: "You look at water, soil, air and what lives there.",
  lawyer: "You look for permits, liabilities and contracts.",
  sociologist: "You ask whom it helps, whom it burdens, and who was not asked.",
} as const;
export type Specialist = keyof typeof SPECIALISTS;
export const NAMES = Object.keys(SPECIALISTS) as Specialist[];
