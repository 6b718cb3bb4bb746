// Byte-pair encoding with the vocabulary of a tokenizer.bin, for o200k_harmony, gpt-oss's tokenizer, or any smaller
// one. Text is cut into pieces (words, numbers, runs of punctuation or white space) by the o200k pattern, and each
// piece becomes tokens by merging neighbours of lowest rank.
#ifndef TOKENIZER_HPP
#define TOKENIZER_HPP

#include <cstddef>
#include <string_view>
#include <unordered_map>
#include <vector>

// A vocabulary. read_tokenizer fills it, free_tokenizer empties it; reading it from several threads is safe.
struct Tokenizer {
  char **vocab = nullptr;    // [vocab_size] bytes of each token; a '\0' follows them, so that they are a C string too
  int *lengths = nullptr;    // [vocab_size] number of bytes of each token
  float *scores = nullptr;   // [vocab_size] merge rank, lower merges first; -1e30 for special tokens
  int vocab_size = 0;        // number of tokens
  int max_token_length = 0;  // no token of the file has more bytes

  std::unordered_map<std::string_view, int> ordinary_ids;  // bytes -> id, for what user text can become
  std::unordered_map<std::string_view, int> special_ids;  // text such as <|start|> -> id; never looked up for user text
  std::vector<char> bytes;                                // what vocab points into
  std::vector<char *> vocab_storage;
  std::vector<int> lengths_storage;
  std::vector<float> scores_storage;

  Tokenizer() = default;
  Tokenizer(const Tokenizer &) = delete;  // vocab and the keys of the maps point into bytes
  Tokenizer &operator=(const Tokenizer &) = delete;
};

// Reads tokenizer.bin, little-endian: int32 max_token_length, then a record a token {float32 score, int32 length,
// bytes}. The record of the NUL byte's token holds the text <0x00>; here it becomes the byte itself.
// Ends the program with one line on stderr if the file is missing, truncated or not a tokenizer, does not hold exactly
// vocab_size tokens, or lacks one of the 256 single bytes, without which some text would have no encoding.
void read_tokenizer(Tokenizer *tokenizer, const char *path, int vocab_size);

// The same, with as many tokens as the file holds.
void read_whole_tokenizer(Tokenizer *tokenizer, const char *path);

void free_tokenizer(Tokenizer *tokenizer);

// Encodes a C string into out: bos first and eos last unless they are -1, which means none. At most max_tokens ids are
// written; what goes beyond, eos too, is left out. *n_out is the number written. Text of n bytes has at most n tokens,
// so max_tokens = n + 2 always suffices. The text of a special token is text like any other. Every byte string is
// valid: a byte that is not part of well-formed UTF-8 counts as a symbol of its own, neither letter nor digit nor
// space, and decoding gives back the bytes of the text exactly. Time: n log n for a piece of n bytes, else linear. Text
// over 2^31 - 1 bytes ends the program with an error.
void encode(Tokenizer *tokenizer, const char *text, int bos, int eos, int *out, int *n_out, int max_tokens);

// The bytes of a token, as a C string that lives as long as the tokenizer. Concatenated they are the text; one alone
// may be part of a UTF-8 sequence. The token before it (prev) does not matter in this tokenizer. An id outside of
// 0..vocab_size-1 ends the program with an error.
char *decode_piece(Tokenizer *tokenizer, int prev, int token);

// Prints to stdout the next piece of the text that goes there, as TerminalText has it: a character may come in several
// pieces. So the line feed that ends a text must come this way too.
void print_text(std::string_view piece);

// The same of a C string; null prints nothing. What the harness offers to other patch sets.
void safe_printf(const char *piece);

// The id of the special token with this text, such as <|start|>, or -1 if the vocabulary has none.
int find_special(Tokenizer *tokenizer, const char *text);

// Pre-tokenisation: the end of the piece that starts at byte `start` < length. Pieces follow each other without gaps.
// All pieces of a text together take linear time.
size_t next_piece(const char *text, size_t length, size_t start);

#endif  // TOKENIZER_HPP
