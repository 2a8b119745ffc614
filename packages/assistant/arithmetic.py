"""Sums for a model, which is bad at them: numbers, brackets, + - * / // % and **, and nothing that could do harm."""

import ast
import operator
from collections.abc import Callable

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}

# 9**9**9 would compute for hours, and 10**3000 cannot be a float: nobody asks an assistant for either.
_MAX_DIGITS = 300
_MAX_LENGTH = 500


def calculate(expression: str) -> str:
    """Work out a sum such as (3 + 4) * 1.2 and return the result."""
    if len(expression) > _MAX_LENGTH:
        return f"Cannot work out a sum of more than {_MAX_LENGTH} characters."
    try:
        return str(_value(ast.parse(expression.strip(), mode="eval").body))
    except SyntaxError:
        return f"Cannot work out {expression!r}: this is no sum."
    except (ValueError, ArithmeticError) as error:
        return f"Cannot work out {expression!r}: {error}."


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
            return _UNARY[type(sign)](_value(operand))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return _applied(sign, _value(left), _value(right))
    raise ValueError("only numbers, brackets and + - * / // % ** are known")


def _applied(sign: ast.operator, left: float, right: float) -> float:
    if isinstance(sign, ast.Pow) and abs(right) * len(str(abs(left))) > _MAX_DIGITS:
        raise ValueError("the result is too large")
    if isinstance(sign, ast.Pow) and left < 0 and right != int(right):
        raise ValueError("the result is no real number")
    return _BINARY[type(sign)](left, right)
