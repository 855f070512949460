/** Runs every step in turn, also after one that failed, and says at the end what failed. */
export async function endAll(steps: readonly (() => Promise<void> | void)[]): Promise<void> {
  const faults: string[] = [];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      faults.push(error instanceof Error ? error.message : String(error));
    }
  }
  if (faults.length > 0) throw new Error(`not everything could be stopped: ${faults.join("; ")}`);
}
