// tokenizer.cpp: pre-tokenisation, merging, errors, time. The vocabularies are made here;
// tests/test_tokenizer_parity.py compares the real one with tiktoken.
#include "../fatal.hpp"
#include "../terminal.hpp"
#include "../tokenizer.hpp"
#include "../utf8.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace {

struct Record {
  float score;
  int length;
  std::string bytes;
};

Record ordinary(size_t rank, const std::string &bytes) { return {(float)rank, (int)bytes.size(), bytes}; }

// The 256 bytes at ids 0..255, then the merges, then the special tokens.
std::vector<Record> make_records(const std::vector<std::string> &merges,
                                 const std::vector<std::string> &specials = {}) {
  std::vector<Record> records;
  for (int byte = 0; byte < 256; byte++)
    records.push_back(ordinary((size_t)byte, byte ? std::string(1, (char)byte) : "<0x00>"));
  for (const std::string &merge : merges) records.push_back(ordinary(records.size(), merge));
  for (const std::string &special : specials) records.push_back({-1e30f, (int)special.size(), special});
  return records;
}

int longest(const std::vector<Record> &records) {
  int result = 0;
  for (const Record &record : records) result = std::max(result, record.length);
  return result;
}

std::string file_of(int max_token_length, const std::vector<Record> &records) {
  std::string file((const char *)&max_token_length, 4);
  for (const Record &record : records) {
    file.append((const char *)&record.score, 4);
    file.append((const char *)&record.length, 4);
    file += record.bytes;
  }
  return file;
}

std::string write_file(const std::string &contents) {
  const std::string path = testing::TempDir() + "tokenizer_test_" + std::to_string(getpid()) + ".bin";
  FILE *file = fopen(path.c_str(), "wb");
  EXPECT_EQ(fwrite(contents.data(), 1, contents.size(), file), contents.size());
  fclose(file);
  return path;
}

// A tokenizer read from a file with these records.
class Vocabulary {
 public:
  explicit Vocabulary(const std::vector<Record> &records) {
    const std::string path = write_file(file_of(longest(records), records));
    read_tokenizer(&tokenizer, path.c_str(), (int)records.size());
    remove(path.c_str());
  }
  ~Vocabulary() { free_tokenizer(&tokenizer); }

  std::vector<int> ids(const std::string &text, int bos = -1, int eos = -1) {
    std::vector<int> out(text.size() + 2);
    int count = -1;
    encode(&tokenizer, text.c_str(), bos, eos, out.data(), &count, (int)out.size());
    out.resize((size_t)count);
    return out;
  }

  std::string text_of(const std::vector<int> &ids) {
    std::string text;
    for (size_t i = 0; i < ids.size(); i++) text += decode_piece(&tokenizer, i ? ids[i - 1] : -1, ids[i]);
    return text;
  }

  Tokenizer tokenizer;
};

std::vector<std::string> pieces(const std::string &text) {
  std::vector<std::string> result;
  for (size_t start = 0, end; start < text.size(); start = end) {
    end = next_piece(text.data(), text.size(), start);
    if (end <= start || end > text.size()) {
      ADD_FAILURE() << "piece from " << start << " to " << end << " of " << text.size();
      break;
    }
    result.push_back(text.substr(start, end - start));
  }
  return result;
}

using Pieces = std::vector<std::string>;

// ---- pre-tokenisation -----------------------------------------------------------------------------------------------

TEST(NextPiece, WordsTakeOneCharacterBeforeThem) {
  EXPECT_EQ(pieces("Hello, world!"), (Pieces{"Hello", ",", " world", "!"}));
  EXPECT_EQ(pieces("(word)"), (Pieces{"(word", ")"}));
  EXPECT_EQ(pieces("  word"), (Pieces{" ", " word"}));
  EXPECT_EQ(pieces("\tword"), (Pieces{"\tword"}));
  EXPECT_EQ(pieces("\nword"), (Pieces{"\n", "word"}));
  EXPECT_EQ(pieces("..word"), (Pieces{"..", "word"}));
  EXPECT_EQ(pieces(" .word"), (Pieces{" .", "word"}));
}

TEST(NextPiece, WordsEndWhereUpperCaseBegins) {
  EXPECT_EQ(pieces("camelCase"), (Pieces{"camel", "Case"}));
  EXPECT_EQ(pieces("HTTPServer"), (Pieces{"HTTPServer"}));
  EXPECT_EQ(pieces("HTTP server"), (Pieces{"HTTP", " server"}));
  EXPECT_EQ(pieces("aBCd"), (Pieces{"a", "BCd"}));
  EXPECT_EQ(pieces("\u01c5a"), (Pieces{"\u01c5a"}));  // title case counts as upper case
}

TEST(NextPiece, BacktracksToTheLastLetterWithoutCase) {
  EXPECT_EQ(pieces("\u4e2dAB"), (Pieces{"\u4e2d", "AB"}));
  EXPECT_EQ(pieces("AB\u4e2dCD"), (Pieces{"AB\u4e2d", "CD"}));
  EXPECT_EQ(pieces("AB\u4e2dCDe"), (Pieces{"AB\u4e2dCDe"}));
  EXPECT_EQ(pieces("\u4e2dA\u02b0B "), (Pieces{"\u4e2dA\u02b0", "B", " "}));
  EXPECT_EQ(pieces("a\u4e2dB"), (Pieces{"a\u4e2d", "B"}));
}

TEST(NextPiece, MarksBelongToWordsAndMayPrecedeThem) {
  EXPECT_EQ(pieces("e\u0301tude"), (Pieces{"e\u0301tude"}));
  EXPECT_EQ(pieces("\u0301a"), (Pieces{"\u0301a"}));
  EXPECT_EQ(pieces("\u0301AB"), (Pieces{"\u0301", "AB"}));  // as prefix it would leave the + nothing, so it is the word
  EXPECT_EQ(pieces("A\u0301B"), (Pieces{"A\u0301", "B"}));
  EXPECT_EQ(pieces("!\u0301"), (Pieces{"!\u0301"}));
  EXPECT_EQ(pieces("!!\u0301"), (Pieces{"!!\u0301"}));
  EXPECT_EQ(pieces("1\u0301"), (Pieces{"1", "\u0301"}));
}

TEST(NextPiece, Contractions) {
  for (const char *ending : {"'s", "'S", "'t", "'T", "'re", "'Re", "'rE", "'RE", "'ve", "'VE", "'m", "'M", "'ll", "'Ll",
                             "'LL", "'d", "'D", "'\u017f"}) {
    EXPECT_EQ(pieces(std::string("we") + ending), (Pieces{std::string("we") + ending}));
    EXPECT_EQ(pieces(std::string("WE") + ending), (Pieces{std::string("WE") + ending}));
    EXPECT_EQ(pieces(std::string("we") + ending + "x"), (Pieces{std::string("we") + ending, "x"}));
  }
  EXPECT_EQ(pieces("we'r"), (Pieces{"we", "'r"}));
  EXPECT_EQ(pieces("we'lx"), (Pieces{"we", "'lx"}));
  EXPECT_EQ(pieces("we'x"), (Pieces{"we", "'x"}));
  EXPECT_EQ(pieces("we'"), (Pieces{"we", "'"}));
  EXPECT_EQ(pieces("we\u2019s"), (Pieces{"we", "\u2019s"}));
  EXPECT_EQ(pieces("7's"), (Pieces{"7", "'s"}));
  EXPECT_EQ(pieces("we\'\x13"), (Pieces{"we", "'\x13"}));  // 0x13 is S without the bit of a letter
}

TEST(NextPiece, NumbersInThrees) {
  EXPECT_EQ(pieces("1234567"), (Pieces{"123", "456", "7"}));
  EXPECT_EQ(pieces(" 12"), (Pieces{" ", "12"}));
  EXPECT_EQ(pieces("3.14"), (Pieces{"3", ".", "14"}));
  EXPECT_EQ(pieces("\u0661\u0662\u0663\u0664"), (Pieces{"\u0661\u0662\u0663", "\u0664"}));
  EXPECT_EQ(pieces("\u00bd\u2167"), (Pieces{"\u00bd\u2167"}));
}

TEST(NextPiece, SymbolsTakeLineEndsAndSlashes) {
  EXPECT_EQ(pieces("a; \n"), (Pieces{"a", ";", " \n"}));
  EXPECT_EQ(pieces(";\r\n\nx"), (Pieces{";\r\n\n", "x"}));
  EXPECT_EQ(pieces("!\n/\n!"), (Pieces{"!\n/\n", "!"}));
  EXPECT_EQ(pieces(" //x"), (Pieces{" //", "x"}));
  EXPECT_EQ(pieces("/x"), (Pieces{"/x"}));
  EXPECT_EQ(pieces("  !"), (Pieces{" ", " !"}));
  EXPECT_EQ(pieces("\t!"), (Pieces{"\t", "!"}));
  EXPECT_EQ(pieces("\U0001f600\u200d\U0001f600"), (Pieces{"\U0001f600\u200d\U0001f600"}));
}

TEST(NextPiece, WhiteSpace) {
  EXPECT_EQ(pieces("   "), (Pieces{"   "}));
  EXPECT_EQ(pieces("   x"), (Pieces{"  ", " x"}));
  EXPECT_EQ(pieces("   1"), (Pieces{"  ", " ", "1"}));
  EXPECT_EQ(pieces(" \n \n  x"), (Pieces{" \n \n", " ", " x"}));
  EXPECT_EQ(pieces("x\r\ny"), (Pieces{"x", "\r\n", "y"}));
  EXPECT_EQ(pieces("\r\r"), (Pieces{"\r\r"}));
  EXPECT_EQ(pieces("\u00a0\u3000\u2028x"), (Pieces{"\u00a0\u3000", "\u2028x"}));
  EXPECT_EQ(pieces("\x1c\x1d"), (Pieces{"\x1c\x1d"}));  // Python's isspace, but not the pattern's \s
}

TEST(NextPiece, BytesThatAreNotUtf8AreSymbols) {
  EXPECT_EQ(pieces("a\xff"), (Pieces{"a", "\xff"}));
  EXPECT_EQ(pieces("\xff"
                   "a"),
            (Pieces{"\xff"
                    "a"}));
  EXPECT_EQ(pieces("\xff\xfe"
                   "a"),
            (Pieces{"\xff\xfe", "a"}));
  EXPECT_EQ(pieces("\xc3"), (Pieces{"\xc3"}));                // truncated
  EXPECT_EQ(pieces("a\xe4\xb8"), (Pieces{"a", "\xe4\xb8"}));  // truncated
  EXPECT_EQ(pieces("a\xc1\xa1"
                   "b"),
            (Pieces{"a", "\xc1\xa1", "b"}));  // an overlong a
  EXPECT_EQ(pieces("a\xe0\x81\xa1"
                   "b"),
            (Pieces{"a", "\xe0\x81\xa1", "b"}));  // the same in three bytes
  EXPECT_EQ(pieces("a\xf0\x80\x81\xa1"
                   "b"),
            (Pieces{"a", "\xf0\x80\x81\xa1", "b"}));
  EXPECT_EQ(pieces("a\xed\xa0\x80"
                   "b"),
            (Pieces{"a", "\xed\xa0\x80", "b"}));  // a surrogate
  EXPECT_EQ(pieces("a\xf4\x90\x80\x80"
                   "b"),
            (Pieces{"a", "\xf4\x90\x80\x80", "b"}));  // U+110000
  EXPECT_EQ(pieces(std::string("a\0b", 3)), (Pieces{"a", std::string("\0b", 2)}));
}

// The classes of a few characters, written down here, and the pattern as lists of repeated sets: the textbook matcher.
struct Symbol {
  const char *bytes;
  std::string sets;  // U upper or title case, L lower case, O letter without case, M mark, N number, S space,
                     // R line end, / slash, P other; ' and b (blank) also for themselves
};
const Symbol kSymbols[] = {{"a", "L"},      {"s", "L"},      {"B", "U"},      {"\u01c5", "U"},     {"\u00e9", "L"},
                           {"\u4e2d", "O"}, {"\u02b0", "O"}, {"\u0301", "M"}, {"\u0903", "M"},     {"7", "N"},
                           {"\u2167", "N"}, {" ", "Sb"},     {"\t", "S"},     {"\u3000", "S"},     {"\n", "R"},
                           {"\r", "R"},     {"/", "/"},      {"'", "P'"},     {"\U0001f600", "P"}, {"\xFF", "P"}};

struct Repeat {
  const char *sets;  // one of these
  size_t least, most;
};
using Alternative = std::vector<Repeat>;
constexpr size_t kMany = INT_MAX;
// The contraction is "'s" only, which is why the other letters are missing above.
const std::vector<Alternative> kPattern = {
    {{"MSP/", 0, 1}, {"UOM", 0, kMany}, {"LOM", 1, kMany}},
    {{"MSP/", 0, 1}, {"UOM", 1, kMany}, {"LOM", 0, kMany}},
    {{"N", 1, 3}},
    {{"b", 0, 1}, {"MP/", 1, kMany}, {"R/", 0, kMany}},
    {{"SR", 0, kMany}, {"R", 1, kMany}},
};

// The end of the match of alternative[k..] at i, or -1: greedy, then giving back one by one.
long backtrack(const std::vector<const Symbol *> &text, size_t i, const Alternative &alternative, size_t k) {
  if (k == alternative.size()) return (long)i;
  const Repeat &repeat = alternative[k];
  size_t n = 0;
  while (n < repeat.most && i + n < text.size() && text[i + n]->sets.find_first_of(repeat.sets) != std::string::npos)
    n++;
  for (long count = (long)n; count >= (long)repeat.least; count--) {
    const long end = backtrack(text, i + (size_t)count, alternative, k + 1);
    if (end >= 0) return end;
  }
  return -1;
}

size_t reference_end(const std::vector<const Symbol *> &text, size_t i) {
  for (size_t a = 0; a < kPattern.size(); a++) {
    const long end = backtrack(text, i, kPattern[a], 0);
    if (end < 0) continue;
    const size_t e = (size_t)end;
    const bool contraction = a < 2 && e + 1 < text.size() && text[e]->bytes[0] == '\'' && text[e + 1]->bytes[0] == 's';
    return contraction ? e + 2 : e;
  }
  size_t end = i;  // \s+(?!\S)|\s+
  while (end < text.size() && text[end]->sets[0] == 'S') end++;
  return end == text.size() || end == i + 1 ? end : end - 1;
}

TEST(NextPiece, SameAsBacktracking) {
  std::mt19937 random(1);
  for (int round = 0; round < 100'000; round++) {
    std::vector<const Symbol *> text(random() % 12);
    std::string bytes;
    for (const Symbol *&symbol : text) bytes += (symbol = &kSymbols[random() % std::size(kSymbols)])->bytes;
    Pieces expected;
    for (size_t i = 0; i < text.size();) {
      std::string piece;
      for (const size_t end = reference_end(text, i); i < end; i++) piece += text[i]->bytes;
      expected.push_back(piece);
    }
    ASSERT_EQ(pieces(bytes), expected) << testing::PrintToString(bytes);
  }
}

TEST(NextPiece, NeverReadsBeyondTheLength) {
  const std::string text = "caf\u00e9 '\u017f \u4e2d's \U00020000\u0301A'll";
  for (size_t length = 1; length <= text.size(); length++) {
    const std::vector<char> exact(text.begin(), text.begin() + (std::ptrdiff_t)length);  // a sanitizer guards its end
    for (size_t start = 0; start < length;) {
      const size_t end = next_piece(exact.data(), length, start);
      ASSERT_GT(end, start);
      ASSERT_LE(end, length);
      start = end;
    }
  }
}

// ---- merging --------------------------------------------------------------------------------------------------------

TEST(Encode, MergesByRank) {
  Vocabulary v(make_records({"bc", "ab"}));
  EXPECT_EQ(v.ids("abcb"), (std::vector<int>{'a', 256, 'b'}));
  EXPECT_EQ(v.ids("abxbc"), (std::vector<int>{257, 'x', 256}));
}

TEST(Encode, MergesOnWithMergedParts) {
  Vocabulary v(make_records({"th", "the", " the", "er"}));
  EXPECT_EQ(v.ids("the other"), (std::vector<int>{257, ' ', 'o', 257, 'r'}));
  EXPECT_EQ(v.ids("theers"), (std::vector<int>{257, 259, 's'}));
}

TEST(Encode, LeftmostOfEqualsFirst) {
  Vocabulary v(make_records({"aa"}));
  EXPECT_EQ(v.ids("aaa"), (std::vector<int>{256, 'a'}));
  EXPECT_EQ(v.ids("aaaaa"), (std::vector<int>{256, 256, 'a'}));
}

TEST(Encode, RankIsTheScoreNotTheId) {
  std::vector<Record> records = make_records({"ab", "bc"});
  std::swap(records[256].score, records[257].score);
  Vocabulary v(records);
  EXPECT_EQ(v.ids("abcx"), (std::vector<int>{'a', 257, 'x'}));
}

TEST(Encode, WholePieceThatIsATokenStaysWhole) {
  Vocabulary v(make_records({"bc", "abcd"}));  // no merges lead to abcd
  EXPECT_EQ(v.ids("abcd"), (std::vector<int>{257}));
  EXPECT_EQ(v.ids("abcde"), (std::vector<int>{'a', 256, 'd', 'e'}));
}

TEST(Encode, NoMergeCrossesPieces) {
  Vocabulary v(make_records({"a,", "12", "34"}));
  EXPECT_EQ(v.ids("a,"), (std::vector<int>{'a', ','}));
  EXPECT_EQ(v.ids("1234"), (std::vector<int>{257, '3', '4'}));
}

TEST(Encode, EmptyTextBosAndEos) {
  Vocabulary v(make_records({}));
  EXPECT_EQ(v.ids(""), (std::vector<int>{}));
  EXPECT_EQ(v.ids("", 7, 9), (std::vector<int>{7, 9}));
  EXPECT_EQ(v.ids("ab", 0, -1), (std::vector<int>{0, 'a', 'b'}));
  EXPECT_EQ(v.ids("ab", -1, 5), (std::vector<int>{'a', 'b', 5}));
}

TEST(Encode, WritesAtMostMaxTokens) {
  Vocabulary v(make_records({"he"}));
  const std::vector<int> all = v.ids("hello you", 1, 2);
  for (int max_tokens = -1; max_tokens <= (int)all.size() + 1; max_tokens++) {
    std::vector<int> out(all.size() + 2, -77);
    int count = -1;
    encode(&v.tokenizer, "hello you", 1, 2, out.data(), &count, max_tokens);
    ASSERT_EQ(count, std::clamp(max_tokens, 0, (int)all.size()));
    EXPECT_TRUE(std::equal(out.begin(), out.begin() + count, all.begin()));
    EXPECT_TRUE(std::all_of(out.begin() + count, out.end(), [](int id) { return id == -77; })) << max_tokens;
  }
}

// What merge_bytes computes, the slow and plain way.
std::vector<int> merge_plainly(const std::vector<Record> &records, const std::string &piece) {
  const auto find = [&](const std::string &bytes) {
    for (size_t id = 0; id < records.size(); id++)
      if (records[id].bytes == bytes) return (int)id;
    return -1;
  };
  if (find(piece) >= 0) return {find(piece)};
  std::vector<std::string> parts;
  for (const char c : piece) parts.emplace_back(1, c);
  for (;;) {
    size_t best = parts.size();
    float best_rank = INFINITY;
    for (size_t i = 0; i + 1 < parts.size(); i++) {
      const int id = find(parts[i] + parts[i + 1]);
      if (id >= 0 && records[(size_t)id].score < best_rank) {
        best = i;
        best_rank = records[(size_t)id].score;
      }
    }
    if (best == parts.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + (std::ptrdiff_t)best + 1);
  }
  std::vector<int> ids;
  for (const std::string &part : parts) ids.push_back(find(part));
  return ids;
}

TEST(Encode, SameAsThePlainAlgorithmOnRandomVocabularies) {
  std::mt19937 rng(1);
  for (int round = 0; round < 40; round++) {
    std::vector<std::string> known = {"a", "b", "c"}, merges;
    while (merges.size() < 25) {
      const std::string merge = known[rng() % known.size()] + known[rng() % known.size()];
      if (std::find(known.begin(), known.end(), merge) != known.end()) continue;
      known.push_back(merge);
      merges.push_back(merge);
    }
    std::shuffle(merges.begin(), merges.end(), rng);  // so that some merges come before what they are made of
    const std::vector<Record> records = make_records(merges);
    Vocabulary v(records);
    for (int i = 0; i < 25; i++) {
      std::string word;
      for (size_t length = 1 + rng() % 60; length > 0; length--) word += "abc"[rng() % 3];
      ASSERT_EQ(v.ids(word), merge_plainly(records, word)) << word;
    }
  }
}

TEST(Encode, DecodingGivesBackAnyBytes) {
  Vocabulary v(make_records({"th", "the", "\xe4\xb8", "\xe4\xb8\xad", "\xc3\xa9", "  ", "\r\n"}));
  std::mt19937 rng(2);
  const std::vector<std::string> parts = {"the", "\u4e2d", "\u00e9", " ",    "\r\n", "\n",
                                          "'s",  "12",     "A",      "\xe4", "\xff", "\xed\xa0\x80"};
  for (int round = 0; round < 5000; round++) {
    std::string text;
    for (size_t n = rng() % 30; n > 0; n--)
      text += rng() % 2 ? parts[rng() % parts.size()] : std::string(1, (char)(1 + rng() % 255));
    ASSERT_EQ(v.text_of(v.ids(text)), text);
  }
}

// ---- special tokens and the NUL byte --------------------------------------------------------------------------------

TEST(Special, FoundByTextButNeverInUserText) {
  Vocabulary v(make_records({}, {"<|start|>", "word"}));
  EXPECT_EQ(find_special(&v.tokenizer, "<|start|>"), 256);
  EXPECT_EQ(find_special(&v.tokenizer, "<|end|>"), -1);
  EXPECT_EQ(find_special(&v.tokenizer, "a"), -1);  // a token, but not a special one
  EXPECT_EQ(v.ids("<|start|>").size(), 9u);
  EXPECT_EQ(v.ids("word"), (std::vector<int>{'w', 'o', 'r', 'd'}));
  EXPECT_STREQ(decode_piece(&v.tokenizer, -1, 256), "<|start|>");
}

TEST(Special, TheNulByteIsNotItsText) {
  Vocabulary v(make_records({}));
  EXPECT_EQ(v.tokenizer.lengths[0], 1);
  EXPECT_EQ(v.tokenizer.vocab[0][0], '\0');
  EXPECT_EQ(v.ids("<0x00>"), (std::vector<int>{'<', '0', 'x', '0', '0', '>'}));
}

// ---- output ---------------------------------------------------------------------------------------------------------

// Pieces of a text, each on its own or with others in one, and what of them reaches a terminal.
TEST(TerminalText, WhatOfWhichPiecesIsShown) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"a\tb\r\n", "\x1b[31m\x07\x7f", " \u00e9\u4e2d\U0001f600"}, "a\tb\n[31m \u00e9\u4e2d\U0001f600"},
      {{std::string("a\0b", 3), std::string(1, '\0')}, "ab"},
      {{"\xc2\x9b"
        "2J",
        "x\xc2\x80\xc2\x9f\xc2\xa0y"},
       "2Jx\u00a0y"},
      {{"\xc2", "\x9b", "2J"}, "2J"},                                              // C1 over a border
      {{"\xe4", "\xb8", "\xad", "\xf0\x9f", "\x98", "\x80"}, "\u4e2d\U0001f600"},  // characters over borders
      {{"\u202a\u202b\u202c\u202d\u202e", "\u2066\u2067\u2068\u2069", "\xe2\x80", "\xae"}, ""},
      {{"\u2029\u202f\u2065\u206a\u200e\u200f\u061c"}, "\u2029\u202f\u2065\u206a\u200e\u200f\u061c"},  // neighbours
      {{"\x9b", "\x85", "\xff"}, "\uFFFD\uFFFD\uFFFD"},          // C1 as bytes are no UTF-8
      {{"\xc2", std::string(1, '\0'), "\x9b"}, "\uFFFD\uFFFD"},  // a control within a character
      {{"\xe2\x80", "\x1b", "\xae"}, "\uFFFD\uFFFD"},
      {{"\xc3", "\xc3", "\xa9"}, "\uFFFD\u00e9"},
      {{"\xe2\x82", "A"}, "\uFFFDA"},
      {{"\xc0\x9b", "\xe0\x82\x9b", "\xf0\x80\x82\x9b"},
       "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"},  // overlong
      {{"\xed\xa0\x80"}, "\uFFFD\uFFFD\uFFFD"},                    // a surrogate
      {{"\xf4\x90\x80\x80"}, "\uFFFD\uFFFD\uFFFD\uFFFD"},          // above U+10FFFF
      {{"a\xf0\x9f\x98"}, "a\uFFFD"},                              // the end of the text within a character
      {{"a", "\xf0", "\x9f"}, "a\uFFFD"},
      {{"a\xe4\n"}, "a\uFFFD\n"},
      {{"", ""}, ""},
  };
  for (const auto &[pieces, shown] : cases) {
    std::string text, printed;
    TerminalText terminal;
    for (const std::string &piece : pieces) {
      text += piece;
      printed += terminal.take(piece);
    }
    EXPECT_EQ(printed + terminal.take_last(""), shown) << testing::PrintToString(text);
    EXPECT_EQ(TerminalText().take_last(text), shown) << "in one: " << testing::PrintToString(text);
    std::string bytes;
    for (const char byte : text) bytes += terminal.take({&byte, 1});
    EXPECT_EQ(bytes + terminal.take_last(""), shown) << "byte by byte: " << testing::PrintToString(text);
  }
}

// Whatever bytes come in whatever pieces: what is shown is UTF-8 without anything that is not for a terminal.
TEST(TerminalText, IsCleanWhateverComes) {
  std::mt19937 rng(11);
  const std::vector<std::string> parts = {"\xc2",     "\x9b", "\xe2", "\x80", "\xae",
                                          "\xe2\x81", "\xa6", "\x1b", "a",    "\u4e2d"};
  for (int round = 0; round < 5000; round++) {
    TerminalText terminal;
    std::string shown;
    for (size_t n = rng() % 12; n > 0; n--)
      shown += terminal.take(rng() % 4 ? parts[rng() % parts.size()] : std::string(1, (char)rng()));
    shown += terminal.take_last("");
    for (size_t i = 0; i < shown.size();) {
      const Utf8 next = read_utf8(shown.data() + i, shown.size() - i);
      ASSERT_EQ(next.kind, Utf8::kCharacter) << testing::PrintToString(shown);
      ASSERT_TRUE(is_for_terminal(next.code_point)) << testing::PrintToString(shown);
      i += (size_t)next.length;
    }
  }
}

TEST(SafePrintf, PrintsPieceByPiece) {
  testing::internal::CaptureStdout();
  safe_printf(nullptr);
  for (const char *piece : {"100%s\x1b", "\xe4", "\xb8", "\xad", "\xc2", "\x9b", "\r", "\xe4", "\n"})
    safe_printf(piece);
  print_text({"a\0b", 3});
  fflush(stdout);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "100%s\u4e2d\uFFFD\nab");
}

TEST(Fatal, QuotesWithoutWhatATerminalObeys) {
  EXPECT_EXIT(fatal("input \"%s\"",
                    "\x1b]0;title\x07\r\xc2\x9b"
                    "2J\u202e\xff"),
              testing::ExitedWithCode(1), "^error: input \"\\]0;title2J\uFFFD\"\n$");
}

TEST(DecodePiece, RefusesIdsOutsideTheVocabulary) {
  Vocabulary v(make_records({}));
  for (const int id : {-1, 256, INT_MAX})
    EXPECT_EXIT(decode_piece(&v.tokenizer, 0, id), testing::ExitedWithCode(1),
                "^error: cannot decode token " + std::to_string(id) + ": .* 0\\.\\.255\n$");
}

// ---- files ----------------------------------------------------------------------------------------------------------

TEST(ReadTokenizer, Fields) {
  Vocabulary v(make_records({"ab", "abc"}, {"<|end|>"}));
  EXPECT_EQ(v.tokenizer.vocab_size, 259);
  EXPECT_EQ(v.tokenizer.max_token_length, 7);
  EXPECT_STREQ(v.tokenizer.vocab[257], "abc");
  EXPECT_EQ(v.tokenizer.lengths[257], 3);
  EXPECT_EQ(v.tokenizer.scores[257], 257.0f);
  EXPECT_EQ(v.tokenizer.scores[258], -1e30f);
  free_tokenizer(&v.tokenizer);
  EXPECT_EQ(v.tokenizer.vocab, nullptr);
  EXPECT_EQ(v.tokenizer.vocab_size, 0);
}

TEST(ReadTokenizer, WholeFileAndReadingAgain) {
  const std::vector<Record> records = make_records({"ab"});
  const std::string path = write_file(file_of(longest(records), records));
  Tokenizer tokenizer;
  for (int i = 0; i < 2; i++) {
    read_whole_tokenizer(&tokenizer, path.c_str());
    EXPECT_EQ(tokenizer.vocab_size, 257);
  }
  free_tokenizer(&tokenizer);
  remove(path.c_str());
}

void expect_refused(const std::string &file, int vocab_size, const std::string &complaint) {
  SCOPED_TRACE(complaint);
  const std::string path = write_file(file);
  const auto read = [&] {
    Tokenizer tokenizer;
    read_tokenizer(&tokenizer, path.c_str(), vocab_size);
  };
  EXPECT_EXIT(read(), testing::ExitedWithCode(1), "^error: " + path + ": [^\n]*" + complaint + "[^\n]*; [^\n]+\n$");
  remove(path.c_str());
}

TEST(ReadTokenizer, RefusesAnAbsentFile) {
  Tokenizer tokenizer;
  EXPECT_EXIT(read_tokenizer(&tokenizer, "absent.bin", 256), testing::ExitedWithCode(1),
              "^error: absent.bin: cannot open the tokenizer: No such file [^\n]*-z[^\n]*\n$");
  EXPECT_EXIT(read_tokenizer(&tokenizer, ".", 256), testing::ExitedWithCode(1),
              "^error: .: cannot read the tokenizer: Is a directory[^\n]*\n$");
}

TEST(ReadTokenizer, RefusesEveryTruncation) {
  const std::vector<Record> records = make_records({"ab"});
  const std::string file = file_of(longest(records), records);
  for (const size_t length : {0u, 3u}) expect_refused(file.substr(0, length), 257, "too short to have a header");
  expect_refused(file.substr(0, 4), 257, "0 tokens, but the model's vocabulary has 257");
  for (size_t cut = 1; cut <= 9; cut++)
    expect_refused(file.substr(0, file.size() - cut), 257, "truncated: the file ends within token 256");
  expect_refused(file.substr(0, file.size() - 10), 257, "256 tokens, but the model's vocabulary has 257");
}

TEST(ReadTokenizer, RefusesAnotherVocabularySize) {
  const std::vector<Record> records = make_records({"ab"});
  const std::string file = file_of(longest(records), records);
  expect_refused(file, 258, "257 tokens, but the model's vocabulary has 258");
  expect_refused(file, 256, "more than 256 tokens");
  expect_refused(file + "x", 257, "more than 257 tokens");
}

TEST(ReadTokenizer, RefusesForeignFiles) {
  const std::vector<Record> good = make_records({"ab"});
  const int longest_token = longest(good);
  for (const int header : {0, -1, INT_MIN, INT_MAX, 1 << 20})
    expect_refused(file_of(header, good), 257, "longest token has " + std::to_string(header) + " bytes, outside");
  expect_refused(file_of(longest_token - 1, good), 257, "token 0 has 6 bytes, outside 1..5");
  for (const int length : {0, -1, INT_MIN, INT_MAX}) {
    std::vector<Record> bad = good;
    bad[9].length = length;
    expect_refused(file_of(longest_token, bad), 257, "token 9 has " + std::to_string(length) + " bytes, outside 1..6");
  }
  for (const float score : {-1.0f, -1e31f, 1e30f, INFINITY, -INFINITY, NAN}) {
    std::vector<Record> bad = good;
    bad[9].score = score;
    expect_refused(file_of(longest_token, bad), 257, "token 9 has the score ");
  }
}

// An exporter may announce more, for instance a bound that several vocabularies share.
TEST(ReadTokenizer, TakesAHeaderAboveTheLongestToken) {
  const std::vector<Record> records = make_records({"ab"});
  const std::string path = write_file(file_of(64, records));
  Tokenizer tokenizer;
  read_tokenizer(&tokenizer, path.c_str(), 257);
  EXPECT_EQ(tokenizer.max_token_length, 64);
  remove(path.c_str());
}

TEST(ReadTokenizer, RefusesMissingBytesAndDoubles) {
  for (const size_t byte : {0u, 10u, 255u}) {
    std::vector<Record> bad = make_records({"ab", "<0x01>"});
    bad[byte] = ordinary(byte, "xy");
    char name[8];
    snprintf(name, sizeof name, "0x%02X", (unsigned)byte & 0xFF);
    expect_refused(file_of(longest(bad), bad), 258, std::string("no token for the byte ") + name);
    bad[byte] = {-1e30f, 1, std::string(1, (char)byte)};  // a special token is none for user text
    expect_refused(file_of(longest(bad), bad), 258, std::string("no token for the byte ") + name);
  }
  const std::vector<Record> doubled = make_records({"ab", "cd", "ab"});
  expect_refused(file_of(longest(doubled), doubled), 259, "tokens 256 and 258 have the same bytes");
}

// ---- time, of the processor's: other work on the machine does not matter ------------------------------------------

double seconds_to_encode(Vocabulary *v, const std::string &text) {
  double best = INFINITY;
  for (int i = 0; i < 3; i++) {
    const clock_t start = clock();
    EXPECT_EQ(v->text_of(v->ids(text)).size(), text.size());
    best = std::min(best, (double)(clock() - start) / CLOCKS_PER_SEC);
  }
  return best;
}

// Four times the text in less than ten times the time (quadratic: sixteen), whatever it consists of.
TEST(Time, NearlyLinear) {
  std::vector<std::string> merges = {"aa", "aaaa", "aaaaaaaa", "the", "th", "  ", "    ", "\n\n", "!!", "AA"};
  Vocabulary v(make_records(merges));
  const std::vector<std::string> units = {"a",       "A",  "the", "the ",   " ",      "\n",           " \n",
                                          "7",       "!",  "/",   "\u4e2d", "\u0301", "aA",           "\u4e2dA",
                                          "\u0301A", "'s", "!a",  "\xff",   "a'",     "\u4e2d\u02b0", "qzxjvkwy"};
  const auto repeat = [](const std::string &unit, size_t bytes) {
    std::string text;
    while (text.size() < bytes) text += unit;
    return text;
  };
  constexpr size_t kBytes = 50000;
  std::vector<std::pair<std::string, std::pair<std::string, std::string>>> cases;
  for (const std::string &unit : units) cases.push_back({unit, {repeat(unit, kBytes), repeat(unit, 4 * kBytes)}});
  for (const std::string first : {"\u4e2d", "\u0301", "\n", "b"})  // one character, then what it may backtrack over
    for (const std::string unit : {"A", " ", "a"})
      cases.push_back({first + unit, {first + repeat(unit, kBytes), first + repeat(unit, 4 * kBytes)}});
  for (const auto &[name, texts] : cases) {
    const double once = seconds_to_encode(&v, texts.first), four_times = seconds_to_encode(&v, texts.second);
    EXPECT_LT(four_times, 10 * once + 0.005)
        << "text of " << testing::PrintToString(name) << ": " << once << " s, then " << four_times << " s";
    EXPECT_LT(four_times, 2.0) << "text of " << testing::PrintToString(name);
  }
}

}  // namespace
