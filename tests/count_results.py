#!/usr/bin/env python3
"""Sums the counts of GoogleTest's and pytest's XML reports.

usage: count_results.py [--failed NAME REASON] [--skipped NAME REASON] ... REPORT.xml:EXIT_CODE ...

Prints every failed and every skipped test with its reason, then one line "N passed, N failed, N skipped"; exit code 1 if
anything failed. A report counts as one failed test if it is missing, broken or empty (a crash leaves none behind), and
also if it tells of no failure although its program ended with an exit code other than 0. --failed and --skipped
count a step that has no report.
"""
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def reason(element):
    """The first lines of what a <failure>, <error> or <skipped> element says."""
    text = element.get("message") or element.text or ""
    return " | ".join(line.strip() for line in text.strip().splitlines()[:3])


def read_report(path):
    """Returns [(name, outcome, reason)] for every test case of a report; outcome is passed, failed or skipped."""
    cases = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname', '')}.{case.get('name', '')}"
        failures = case.findall("failure") + case.findall("error")
        skips = case.findall("skipped")
        if failures:
            cases.append((name, "failed", reason(failures[0])))
        elif skips:
            cases.append((name, "skipped", reason(skips[0])))
        elif case.get("status") == "notrun":  # GoogleTest: disabled, or filtered out
            cases.append((name, "skipped", "not run"))
        else:
            cases.append((name, "passed", ""))
    return cases


def results_of(argument):
    """The cases of one REPORT.xml:EXIT_CODE argument, with a failed one added for a crash."""
    path, _, exit_code = argument.rpartition(":")
    program = Path(path).stem
    try:
        cases = read_report(path)
    except (OSError, ElementTree.ParseError) as error:
        return [(program, "failed", f"exit code {exit_code} and no report: {error}")]
    if not cases:
        return [(program, "failed", f"exit code {exit_code} and a report without tests")]
    if exit_code != "0" and not any(outcome == "failed" for _, outcome, _ in cases):
        cases.append((program, "failed", f"exit code {exit_code} although no test failed"))
    return cases


def main(arguments):
    cases = []
    while arguments:
        argument = arguments.pop(0)
        if argument in ("--failed", "--skipped") and len(arguments) > 1:
            cases.append((arguments.pop(0), argument[2:], arguments.pop(0)))
        elif ":" in argument:
            cases += results_of(argument)
        else:
            print(f"count_results: '{argument}' is not REPORT.xml:EXIT_CODE", file=sys.stderr)
            return 1
    count = {"passed": 0, "failed": 0, "skipped": 0}
    for _, outcome, _ in cases:
        count[outcome] += 1
    for shown in ("skipped", "failed"):
        for name, outcome, why in cases:
            if outcome == shown:
                print(f"{shown}: {name}: {why}")
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] or not cases else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
