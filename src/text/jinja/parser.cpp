#include "text/jinja/parser.h"

#include <initializer_list>
#include <iterator>

#include <fmt/format.h>

#include "text/jinja/expression_parser.h"
#include "text/jinja/token_stream.h"

namespace headrace::jinja {
namespace {

using Kind = Statement::Kind;

constexpr int kMaxNesting = 48;  // blocks in blocks

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)), expressions_(tokens_) {}

  Block run() {
    Block block = parse_block({});
    if (!tokens_.at(Token::Kind::kEnd)) tokens_.refuse("expected the end");
    return block;
  }

 private:
  using Names = std::initializer_list<const char*>;

  static bool is_one_of(const Token& token, Names names) {
    for (const char* name : names) {
      if (token.kind == Token::Kind::kName && token.text == name) return true;
    }
    return false;
  }

  /// Statements up to a tag that begins with one of `ends` (its "{%" is consumed), or to the end of
  /// the template if there are none.
  Block parse_block(Names ends) {
    if (++nesting_ > kMaxNesting) tokens_.refuse("blocks are nested too deeply");
    Block block;
    while (true) {
      if (tokens_.at(Token::Kind::kText)) {
        StatementPtr statement = make(Kind::kText);
        statement->text = tokens_.next().text;
        block.push_back(std::move(statement));
      } else if (tokens_.at(Token::Kind::kVariableBegin)) {
        tokens_.next();
        StatementPtr statement = make(Kind::kOutput);
        statement->expression = expressions_.parse_tuple();
        tokens_.expect(Token::Kind::kVariableEnd, "'}}'");
        block.push_back(std::move(statement));
      } else if (tokens_.at(Token::Kind::kBlockBegin)) {
        tokens_.next();
        if (is_one_of(tokens_.peek(), ends)) break;
        parse_statement(block);
      } else if (ends.size() > 0) {
        tokens_.refuse(fmt::format("expected '{}'", *std::rbegin(ends)));
      } else {
        break;
      }
    }
    --nesting_;
    return block;
  }

  StatementPtr make(Kind kind) const {
    auto statement = std::make_unique<Statement>();
    statement->kind = kind;
    statement->line = tokens_.peek().line;
    return statement;
  }

  void end_tag() { tokens_.expect(Token::Kind::kBlockEnd, "'%}'"); }

  void parse_statement(Block& block) {
    if (tokens_.take_name("if")) {
      block.push_back(parse_if());
    } else if (tokens_.take_name("for")) {
      block.push_back(parse_for());
    } else if (tokens_.take_name("set")) {
      block.push_back(parse_set());
    } else if (tokens_.take_name("macro")) {
      block.push_back(parse_macro());
    } else if (tokens_.at_name("break") || tokens_.at_name("continue")) {
      parse_loop_control(block);
    } else if (tokens_.take_name("generation")) {
      end_tag();
      Block body = parse_block({"endgeneration"});
      tokens_.next();
      end_tag();
      std::move(body.begin(), body.end(), std::back_inserter(block));
    } else {
      tokens_.refuse("this statement is not supported (if, for, set and macro are)");
    }
  }

  StatementPtr parse_if() {
    StatementPtr statement = make(Kind::kIf);
    do {
      Statement::Branch branch;
      branch.condition = expressions_.parse_tuple();
      end_tag();
      branch.body = parse_block({"elif", "else", "endif"});
      statement->branches.push_back(std::move(branch));
    } while (tokens_.take_name("elif"));
    if (tokens_.take_name("else")) {
      end_tag();
      statement->otherwise = parse_block({"endif"});
    }
    tokens_.expect_name("endif");
    end_tag();
    return statement;
  }

  StatementPtr parse_for() {
    StatementPtr statement = make(Kind::kFor);
    statement->targets = parse_targets(false);
    tokens_.expect_name("in");
    statement->expression = expressions_.parse_without_condition();
    if (tokens_.take_name("if")) statement->condition = expressions_.parse();
    if (tokens_.at_name("recursive")) tokens_.refuse("recursive loops are not supported");
    end_tag();
    ++loops_;
    statement->body = parse_block({"else", "endfor"});
    --loops_;
    if (tokens_.take_name("else")) {
      end_tag();
      statement->otherwise = parse_block({"endfor"});
    }
    tokens_.expect_name("endfor");
    end_tag();
    return statement;
  }

  std::vector<Target> parse_targets(bool with_attributes) {
    const bool parentheses = tokens_.take_operator("(");
    std::vector<Target> targets;
    do {
      if (!targets.empty() && !tokens_.at(Token::Kind::kName)) break;  // a trailing comma
      Target target;
      target.name = tokens_.expect(Token::Kind::kName, "a name").text;
      if (with_attributes && tokens_.take_operator(".")) {
        target.attribute = tokens_.expect(Token::Kind::kName, "a name").text;
      }
      targets.push_back(std::move(target));
    } while (tokens_.take_operator(","));
    if (parentheses) tokens_.expect_operator(")");
    return targets;
  }

  StatementPtr parse_set() {
    StatementPtr statement = make(Kind::kSet);
    statement->targets = parse_targets(true);
    if (tokens_.take_operator("=")) {
      statement->expression = expressions_.parse_tuple();
      end_tag();
      return statement;
    }
    if (statement->targets.size() != 1) tokens_.refuse("expected '='");
    statement->kind = Kind::kSetBlock;
    statement->expression = expressions_.parse_filters(nullptr);
    end_tag();
    statement->body = parse_block({"endset"});
    tokens_.next();
    end_tag();
    return statement;
  }

  StatementPtr parse_macro() {
    StatementPtr statement = make(Kind::kMacro);
    statement->text = tokens_.expect(Token::Kind::kName, "the macro's name").text;
    tokens_.expect_operator("(");
    while (!tokens_.take_operator(")")) {
      Parameter parameter;
      parameter.name = tokens_.expect(Token::Kind::kName, "a parameter's name").text;
      if (tokens_.take_operator("=")) parameter.fallback = expressions_.parse();
      statement->parameters.push_back(std::move(parameter));
      if (!tokens_.at_operator(")")) tokens_.expect_operator(",");
    }
    end_tag();
    const int loops = std::exchange(loops_, 0);
    statement->body = parse_block({"endmacro"});
    loops_ = loops;
    tokens_.next();
    end_tag();
    return statement;
  }

  void parse_loop_control(Block& block) {
    if (loops_ == 0) tokens_.refuse("'break' and 'continue' belong into a loop");
    block.push_back(make(tokens_.at_name("break") ? Kind::kBreak : Kind::kContinue));
    tokens_.next();
    end_tag();
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int nesting_ = 0;
  int loops_ = 0;
};

}  // namespace

Block parse_template(std::string_view source) { return Parser(source).run(); }

}  // namespace headrace::jinja
