"""Text kernels: columnar functions on Arrow string arrays that know nothing of datasets or stages.

splitting       documents are cut into spans; the others below serve it
sentences       where sentences end
abbreviations   periods that end no sentence
characters      what single characters mean to a splitter
lines           what lines say: list items, headings, blocks
blanks          where a page is blank
lengths         short fragments join a neighbour, long spans are cut
token_windows   windows of tokenizer tokens
pages           documents laid end to end in one buffer
pieces          very long documents in pieces
utf8            byte offsets and code-point offsets; invalid UTF-8
arrays          chunks as one array, lists by row, memory held
overlaps        scores of ranges become scores of spans
"""
