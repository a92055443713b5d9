"""MinHash signatures of texts, and what near-duplicates are found with.

reference       what a signature is, in plain Python
kernel          the same as compiled loops
signing         calls these loops: signatures of texts that are in normal form C
documents       signatures of any texts
normal_form     which texts have to be put in normal form C first
bands           how many bands and rows find pairs of a similarity
band_hashes     a hash of each band of a signature
shared_keys     which of these hashes occur more than once
fingerprints    a few of a text's shingles, by which shared passages are found
"""
