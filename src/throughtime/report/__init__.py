"""From the records of a run to one self-contained HTML page; nothing is computed here but layout."""

from throughtime.report.page import render as render, write_report as write_report
from throughtime.report.records import Records as Records
