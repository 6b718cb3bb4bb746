#include "tokenizer.hpp"

#include "fatal.hpp"
#include "terminal.hpp"
#include "utf8.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <queue>
#include <string>

namespace {

// ---------------------------------------------------------------------------------------------------------------------
// Characters

// What the pattern tells apart. One bit each, so that a set of classes is their union.
enum CharClass : unsigned {
  kUpper = 1,     // \p{Lu} \p{Lt}
  kLower = 2,     // \p{Ll}
  kLetter = 4,    // \p{Lm} \p{Lo}: letters without case
  kMark = 8,      // \p{M}: accents and other signs on a letter
  kNumber = 16,   // \p{N}
  kSpace = 32,    // \s but \r and \n
  kNewline = 64,  // \r \n
  kSlash = 128,   // /
  kOther = 256,   // the rest: symbols, punctuation, control characters, unassigned, bytes that are not UTF-8
};

constexpr unsigned kWhiteSpace = kSpace | kNewline;                                  // \s
constexpr unsigned kUpperRun = kUpper | kLetter | kMark;                             // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
constexpr unsigned kLowerRun = kLower | kLetter | kMark;                             // [\p{Ll}\p{Lm}\p{Lo}\p{M}]
constexpr unsigned kWordPrefix = ~(kUpper | kLower | kLetter | kNumber | kNewline);  // [^\r\n\p{L}\p{N}]
constexpr unsigned kSymbol = ~(kUpper | kLower | kLetter | kNumber | kWhiteSpace);   // [^\s\p{L}\p{N}]

struct ClassRun {
  uint32_t first;  // the class holds from this code point up to the next run's
  CharClass kind;
};

constexpr ClassRun kClassRuns[] = {
#include "unicode_classes.inc"
};

CharClass class_of(uint32_t code_point) {
  if (code_point == '\r' || code_point == '\n') return kNewline;
  if (code_point == '/') return kSlash;
  const auto after = [](uint32_t c, const ClassRun &run) { return c < run.first; };
  return std::prev(std::upper_bound(std::begin(kClassRuns), std::end(kClassRuns), code_point, after))->kind;
}

struct Char {
  CharClass kind;
  size_t end;  // byte after it
};

// A text as characters. Positions are byte offsets.
class Characters {
 public:
  Characters(const char *text, size_t length) : text_(text), length_(length) {}

  bool at_end(size_t i) const { return i == length_; }
  unsigned char byte(size_t i) const { return i < length_ ? (unsigned char)text_[i] : 0; }

  // The character at i, which is not the end. A byte that starts none is a character by itself.
  Char at(size_t i) const {
    const Utf8 next = read_utf8(text_ + i, length_ - i);
    if (next.kind != Utf8::kCharacter) return {kOther, i + 1};
    return {class_of(next.code_point), i + (size_t)next.length};
  }

  // The character's class is in the set; false at the end of the text.
  bool is(size_t i, unsigned set) const { return !at_end(i) && at(i).kind & set; }

  // The end of the run of characters of these classes that starts at i.
  size_t run_end(size_t i, unsigned set) const {
    while (!at_end(i)) {
      const Char c = at(i);
      if (!(c.kind & set)) break;
      i = c.end;
    }
    return i;
  }

 private:
  const char *text_;
  size_t length_;
};

// ---------------------------------------------------------------------------------------------------------------------
// Pre-tokenisation: tiktoken's pattern for o200k (tiktoken_ext/openai_public.py), whose alternatives are tried in this
// order at each position, each of them greedy and backtracking:
//
//   a word that ends lower
//     [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//   a word that ends upper
//     [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//   a number: \p{N}{1,3}
//   symbols: ' ?[^\s\p{L}\p{N}]+[\r\n/]*' (without the quotes)
//   line ends: \s*[\r\n]+
//   spaces, but the last one is left to the word after them: \s+(?!\S)
//   spaces: \s+
//
// The functions below find without backtracking what backtracking would. Each returns the end of the match that starts
// at i, or i if there is none. A character is seen a bounded number of times, since what a function scans beyond its
// match lies within one run that the next match or two consume.

// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+
size_t match_lower_word(const Characters &text, size_t i) {
  size_t end = i;
  size_t last_shared_end = i;  // after the last character of the first run that the second class has too
  while (!text.at_end(end)) {
    const Char c = text.at(end);
    if (!(c.kind & kUpperRun)) break;
    end = c.end;
    if (c.kind & kLowerRun) last_shared_end = end;
  }
  if (text.is(end, kLowerRun)) return text.run_end(end, kLowerRun);
  // The + found nothing, so the * gives back characters until the + has one. What follows that one is upper case.
  return last_shared_end;
}

// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*
size_t match_upper_word(const Characters &text, size_t i) {
  const size_t end = text.run_end(i, kUpperRun);
  return end > i ? text.run_end(end, kLowerRun) : i;
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d). Beyond ASCII only U+017F, the long s, folds to one of these letters.
size_t match_contraction(const Characters &text, size_t i) {
  if (text.byte(i) != '\'') return i;
  const auto lower = [&](size_t k) { return (char)(text.byte(k) | 0x20); };  // of a letter; no other byte becomes one
  const char first = lower(i + 1), second = lower(i + 2);
  if (text.byte(i + 1) == 0xC5 && text.byte(i + 2) == 0xBF) return i + 3;
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return i + 2;
  if ((first == 'r' || first == 'v') && second == 'e') return i + 3;
  if (first == 'l' && second == 'l') return i + 3;
  return i;
}

size_t match_word(const Characters &text, size_t i) {
  const size_t after_prefix = text.is(i, kWordPrefix) ? text.at(i).end : i;
  for (const auto match : {match_lower_word, match_upper_word}) {
    for (const size_t start : {after_prefix, i}) {  // ? is greedy: with the prefix first. A mark can also do without.
      const size_t end = match(text, start);
      if (end > start) return match_contraction(text, end);
    }
  }
  return i;
}

size_t match_number(const Characters &text, size_t i) {
  for (int digits = 0; digits < 3 && text.is(i, kNumber); digits++) i = text.at(i).end;
  return i;
}

size_t match_symbols(const Characters &text, size_t i) {
  const size_t start = text.byte(i) == ' ' ? i + 1 : i;
  const size_t end = text.run_end(start, kSymbol);
  return end > start ? text.run_end(end, kNewline | kSlash) : i;
}

// \s*[\r\n]+|\s+(?!\S)|\s+
size_t match_white_space(const Characters &text, size_t i) {
  size_t end = i, last_start = i, newline_end = i;
  while (text.is(end, kWhiteSpace)) {
    const Char c = text.at(end);
    if (c.kind == kNewline) newline_end = c.end;
    last_start = end;
    end = c.end;
  }
  if (newline_end > i) return newline_end;  // the \s* gave back what follows the last line end
  return text.at_end(end) || last_start == i ? end : last_start;
}

// ---------------------------------------------------------------------------------------------------------------------
// Merging

int find_token(const Tokenizer &tokenizer, std::string_view bytes) {
  if (bytes.size() > (size_t)tokenizer.max_token_length) return -1;
  const auto found = tokenizer.ordinary_ids.find(bytes);
  return found == tokenizer.ordinary_ids.end() ? -1 : found->second;
}

// Appends the tokens of one piece: starts from its bytes, and of all neighbours whose concatenation is a token joins
// those of the lowest rank, the leftmost of equals, until there are none. The parts are a linked list and the possible
// merges a queue, so that a piece of n bytes takes n log n.
void merge_bytes(const Tokenizer &tokenizer, std::string_view piece, std::vector<int> *tokens) {
  struct Part {          // the part that starts at the byte of the same index
    int previous, next;  // where its neighbours start; at the ends -1 and the size of the piece
    int id;              // its token; -1 once it has become part of the one before it
  };
  struct Merge {  // two neighbours that together make the bytes begin..end-1
    float rank;
    int begin, end, id;
    bool operator>(const Merge &other) const { return rank != other.rank ? rank > other.rank : begin > other.begin; }
  };
  const int size = (int)piece.size();
  std::vector<Part> parts((size_t)size);
  for (int i = 0; i < size; i++) parts[i] = {i - 1, i + 1, find_token(tokenizer, piece.substr(i, 1))};

  std::priority_queue<Merge, std::vector<Merge>, std::greater<Merge>> queue;
  const auto consider = [&](int left) {  // the merge of the part at `left` with the one after it
    if (left < 0 || parts[left].next == size) return;
    const int end = parts[parts[left].next].next;
    const int id = find_token(tokenizer, piece.substr(left, end - left));
    if (id >= 0) queue.push({tokenizer.scores[id], left, end, id});
  };
  for (int i = 0; i < size; i++) consider(i);

  while (!queue.empty()) {
    const Merge merge = queue.top();
    queue.pop();
    Part &left = parts[merge.begin];
    // An earlier merge may have taken one of the two neighbours.
    if (left.id < 0 || left.next == size || parts[left.next].next != merge.end) continue;
    parts[left.next].id = -1;
    left.id = merge.id;
    left.next = merge.end;
    if (merge.end < size) parts[merge.end].previous = merge.begin;
    consider(left.previous);
    consider(merge.begin);
  }
  for (int i = 0; i < size; i = parts[i].next) tokens->push_back(parts[i].id);
}

// ---------------------------------------------------------------------------------------------------------------------
// tokenizer.bin

constexpr float kSpecialScore = -1e30f;
constexpr std::string_view kNulText = "<0x00>";  // how the file writes the token of the byte 0
constexpr const char *kAdvice = "make it again with ./run.sh export-tokenizer";

// The file, read piece by piece. Every message names its path.
class TokenizerFile {
 public:
  explicit TokenizerFile(const char *path) : path_(path), file_(fopen(path, "rb")) {
    if (!file_) fatal("%s: cannot open the tokenizer: %s; give its path with -z or %s", path, strerror(errno), kAdvice);
  }
  ~TokenizerFile() { fclose(file_); }
  TokenizerFile(const TokenizerFile &) = delete;
  TokenizerFile &operator=(const TokenizerFile &) = delete;

  // Reads `size` bytes of token `id` (-1: of the header).
  void read(void *out, size_t size, int id) {
    const size_t got = fread(out, 1, size, file_);
    if (ferror(file_)) fatal("%s: cannot read the tokenizer: %s", path_, strerror(errno));
    if (got == size) return;
    if (id < 0) fatal("%s: not a tokenizer: it is too short to have a header; %s", path_, kAdvice);
    fatal("%s: the tokenizer is truncated: the file ends within token %d; %s", path_, id, kAdvice);
  }

  bool at_end() {
    const int next = getc(file_);
    if (next == EOF && ferror(file_)) fatal("%s: cannot read the tokenizer: %s", path_, strerror(errno));
    if (next != EOF) ungetc(next, file_);
    return next == EOF;
  }

 private:
  const char *path_;
  FILE *file_;
};

// expected: the number of tokens, -1 = as many as there are.
void read_records(Tokenizer *tokenizer, const char *path, int expected) {
  constexpr int kLongestToken = 1 << 16;  // o200k's longest has 128 bytes; a foreign file must not ask for gigabytes
  free_tokenizer(tokenizer);
  TokenizerFile file(path);
  int32_t max_token_length;
  file.read(&max_token_length, sizeof max_token_length, -1);
  if (max_token_length < 1 || max_token_length > kLongestToken)
    fatal("%s: not a tokenizer: its header says that the longest token has %d bytes, outside 1..%d; %s", path,
          max_token_length, kLongestToken, kAdvice);

  std::vector<size_t> offsets;  // into bytes, which moves while it grows
  while (!file.at_end()) {
    const int id = (int)offsets.size();
    if (id == expected)
      fatal("%s: more than %d tokens, which is the model's vocabulary; give the tokenizer of this model with -z", path,
            expected);
    float score;
    int32_t length;
    file.read(&score, sizeof score, id);
    file.read(&length, sizeof length, id);
    if (!(score >= 0 && score < 1e30f) && score != kSpecialScore)
      fatal("%s: not a tokenizer: token %d has the score %g, which is neither a merge rank nor -1e30; %s", path, id,
            score, kAdvice);
    if (length < 1 || length > max_token_length)
      fatal("%s: not a tokenizer: token %d has %d bytes, outside 1..%d of the header; %s", path, id, length,
            max_token_length, kAdvice);

    std::string text((size_t)length, '\0');
    file.read(text.data(), text.size(), id);
    if (score >= 0 && text == kNulText) text.assign(1, '\0');
    offsets.push_back(tokenizer->bytes.size());
    tokenizer->bytes.insert(tokenizer->bytes.end(), text.c_str(), text.c_str() + text.size() + 1);
    tokenizer->lengths_storage.push_back((int)text.size());
    tokenizer->scores_storage.push_back(score);
  }
  const int count = (int)offsets.size();
  if (expected >= 0 && count != expected)
    fatal("%s: %d tokens, but the model's vocabulary has %d; give the tokenizer of this model with -z", path, count,
          expected);
  for (const size_t offset : offsets) tokenizer->vocab_storage.push_back(tokenizer->bytes.data() + offset);
  tokenizer->vocab = tokenizer->vocab_storage.data();
  tokenizer->lengths = tokenizer->lengths_storage.data();
  tokenizer->scores = tokenizer->scores_storage.data();
  tokenizer->vocab_size = count;
  tokenizer->max_token_length = max_token_length;

  tokenizer->ordinary_ids.reserve((size_t)count);
  for (int id = 0; id < count; id++) {
    const std::string_view text(tokenizer->vocab[id], (size_t)tokenizer->lengths[id]);
    auto &ids = tokenizer->scores[id] >= 0 ? tokenizer->ordinary_ids : tokenizer->special_ids;
    const auto [known, is_new] = ids.emplace(text, id);
    if (!is_new)
      fatal("%s: not a tokenizer: tokens %d and %d have the same bytes; %s", path, known->second, id, kAdvice);
  }
  for (int byte = 0; byte < 256; byte++) {
    const char text = (char)byte;
    if (find_token(*tokenizer, {&text, 1}) < 0)
      fatal("%s: not a byte-level tokenizer: no token for the byte 0x%02X; %s", path, (unsigned)byte, kAdvice);
  }
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------------------

void read_tokenizer(Tokenizer *tokenizer, const char *path, int vocab_size) {
  read_records(tokenizer, path, vocab_size);
}

void read_whole_tokenizer(Tokenizer *tokenizer, const char *path) { read_records(tokenizer, path, -1); }

void free_tokenizer(Tokenizer *tokenizer) {
  tokenizer->ordinary_ids = {};
  tokenizer->special_ids = {};
  tokenizer->bytes = {};
  tokenizer->vocab_storage = {};
  tokenizer->lengths_storage = {};
  tokenizer->scores_storage = {};
  tokenizer->vocab = nullptr;
  tokenizer->lengths = nullptr;
  tokenizer->scores = nullptr;
  tokenizer->vocab_size = 0;
  tokenizer->max_token_length = 0;
}

size_t next_piece(const char *text, size_t length, size_t start) {
  const Characters characters(text, length);
  for (const auto match : {match_word, match_number, match_symbols}) {
    const size_t end = match(characters, start);
    if (end > start) return end;
  }
  return match_white_space(characters, start);
}

void encode(Tokenizer *tokenizer, const char *text, int bos, int eos, int *out, int *n_out, int max_tokens) {
  const size_t length = strlen(text);
  if (length > INT_MAX) fatal("cannot encode a text of %zu bytes; the longest has %d", length, INT_MAX);
  int count = 0;
  const auto append = [&](int id) {
    if (count < max_tokens) out[count++] = id;
  };
  if (bos >= 0) append(bos);
  std::vector<int> tokens;  // of one piece
  for (size_t start = 0, end; start < length && count < max_tokens; start = end) {
    end = next_piece(text, length, start);
    const std::string_view piece(text + start, end - start);
    tokens.clear();
    // A piece that is a token as it stands is not taken apart, even if merges would lead elsewhere.
    if (const int whole = find_token(*tokenizer, piece); whole >= 0)
      tokens.push_back(whole);
    else
      merge_bytes(*tokenizer, piece, &tokens);
    for (const int token : tokens) append(token);
  }
  if (eos >= 0) append(eos);
  *n_out = count;
}

char *decode_piece(Tokenizer *tokenizer, int, int token) {
  if (token < 0 || token >= tokenizer->vocab_size)
    fatal("cannot decode token %d: the vocabulary has the ids 0..%d", token, tokenizer->vocab_size - 1);
  return tokenizer->vocab[token];
}

void print_text(std::string_view piece) {
  static TerminalText on_stdout;
  const std::string shown = on_stdout.take(piece);
  fwrite(shown.data(), 1, shown.size(), stdout);
}

void safe_printf(const char *piece) {
  if (piece) print_text(piece);
}

int find_special(Tokenizer *tokenizer, const char *text) {
  const auto found = tokenizer->special_ids.find(text);
  return found == tokenizer->special_ids.end() ? -1 : found->second;
}
